(* Functions and runs that satisfy the hypotheses of T16 to T19, and inputs that attain their bounds.

   Proved here, without axioms and without derivatives: least squares f w = 1/2 |X w - y|^2 and quadratics
   f x = 1/2 <x, D x> have the descent inequality at every pair, with any L such that |X v|^2 <= L |v|^2 or
   <v, D v> <= L |v|^2, and the inequality of Polyak and Lojasiewicz, with any mu > 0 such that
   mu |v|^2 <= |X v|^2, or mu |r|^2 <= |X^T r|^2, or mu |v|^2 <= <v, D v>.  Diagonal matrices with entries
   between mu and L are such quadratics in R^n.  Runs with relative error delta and with coin flips for
   noise exist, so T16 to T19 are not empty; for f = L/2 |x|^2 the bounds of T16, T17 and T18, and the step
   of T19, are equations.

   Hypotheses that a numerical check certifies: |X v|^2 <= L |v|^2 by an upper bound on the spectral norm
   of the data. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import inner_product convergence stochastic.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* From <x, y>^2 <= |x|^2 |y|^2 and mu |x|^2 <= <x, y> to mu <x, y> <= |y|^2. *)
Lemma mu_dot_le (R : realFieldType) (V : lmodType R) (ip : innerProduct V) (mu : R) (x y : V) :
  0 < mu -> mu * sqnorm ip x <= dot ip x y -> mu * dot ip x y <= sqnorm ip y.
Proof.
move=> mu_gt0 le_xy.
have xy_ge0 : 0 <= dot ip x y by apply: le_trans le_xy; rewrite mulr_ge0 ?sqnorm_ge0 ?ltW.
have [->|xy_neq0] := eqVneq (dot ip x y) 0; first by rewrite mulr0 sqnorm_ge0.
have xy_gt0 : 0 < dot ip x y by rewrite lt_neqAle eq_sym xy_neq0.
rewrite -(ler_pmul2l xy_gt0); apply: le_trans (ler_wpmul2r (sqnorm_ge0 ip y) le_xy).
rewrite mulrCA -mulrA ler_pmul2l // -expr2; exact: cauchy_schwarz.
Qed.

(* ---- Least squares ------------------------------------------------------ *)

Section LeastSquares.

Variables (R : realFieldType) (V W : lmodType R) (ipV : innerProduct V) (ipW : innerProduct W).
Variables (X : {linear V -> W}) (Xt : {linear W -> V}) (y : W).
Hypothesis adjoint : forall v r, dot ipW (X v) r = dot ipV v (Xt r).
Implicit Types (w v : V) (L mu : R).

Local Notation "|[ v ]|" := (sqnorm ipV v) (at level 0, v at level 99).
Local Notation "|[ r ]|'" := (sqnorm ipW r) (at level 0, r at level 99).

Definition least_squares w : R := |[X w - y]|' / 2%:R.
Definition least_squares_gradient w : V := Xt (X w - y).

Lemma least_squares_ge0 w : 0 <= least_squares w.
Proof. by rewrite mulr_ge0 ?sqnorm_ge0 ?invr_ge0 ?ler0n. Qed.

(* Exact: a quadratic is its own second-order expansion. *)
Lemma least_squares_expansion w w' : least_squares w' =
  least_squares w + dot ipV (least_squares_gradient w) (w' - w) + |[X (w' - w)]|' / 2%:R.
Proof.
rewrite /least_squares /least_squares_gradient (_ : X w' - y = (X w - y) + X (w' - w)); last first.
  by rewrite linearB /= [RHS]addrC addrA subrK.
by rewrite sqnormD (dotC ipV) -adjoint (dotC ipW); field.
Qed.

Theorem least_squares_smooth L : (forall v, |[X v]|' <= L * |[v]|) ->
  forall w w', descent_at ipV least_squares least_squares_gradient L w w'.
Proof.
move=> X_le w w'; rewrite /descent_at (least_squares_expansion w w') ler_add2l.
by rewrite mulrAC ler_pmul2r ?invr_gt0 ?ltr0n.
Qed.

(* Strongly convex: injective data. *)
Theorem least_squares_pl mu w_opt : 0 < mu -> (forall v, mu * |[v]| <= |[X v]|') ->
  least_squares_gradient w_opt = 0 ->
  (forall w, least_squares w_opt <= least_squares w) /\
  (forall w, pl_at ipV least_squares least_squares_gradient mu (least_squares w_opt) w).
Proof.
move=> mu_gt0 X_ge opt.
have gap w : least_squares w - least_squares w_opt = |[X (w - w_opt)]|' / 2%:R.
  by rewrite (least_squares_expansion w_opt w) opt dot0l addr0 addrC addKr.
split=> w; first by rewrite -subr_ge0 gap mulr_ge0 ?sqnorm_ge0 ?invr_ge0 ?ler0n.
rewrite /pl_at gap.
have grad_w : least_squares_gradient w = Xt (X (w - w_opt)).
  rewrite -[LHS]subr0 -opt /least_squares_gradient -linearB; congr (Xt _).
  by rewrite [RHS]linearB /= opprB addrA subrK.
have := @mu_dot_le _ _ ipV mu (w - w_opt) (least_squares_gradient w) mu_gt0.
rewrite grad_w -adjoint => /(_ (X_ge _)); apply: le_trans.
by rewrite le_eqVlt; apply/orP; left; apply/eqP; rewrite /sqnorm; field.
Qed.

(* Interpolation: every y is fitted, the minimum is 0, and the minimizer need not be unique. *)
Theorem least_squares_pl_interpolation mu : (forall r, mu * |[r]|' <= |[Xt r]|) ->
  forall w, pl_at ipV least_squares least_squares_gradient mu 0 w.
Proof.
move=> Xt_ge w; rewrite /pl_at subr0; apply: le_trans (Xt_ge (X w - y)).
by rewrite le_eqVlt; apply/orP; left; apply/eqP; rewrite /least_squares; field.
Qed.

End LeastSquares.

(* ---- Quadratics --------------------------------------------------------- *)

Section Quadratic.

Variables (R : realFieldType) (V : lmodType R) (ip : innerProduct V) (D : {linear V -> V}).
Hypothesis self_adjoint : forall x y, dot ip (D x) y = dot ip x (D y).
Implicit Types (x y : V) (L mu : R).

Local Notation "<[ x , y ]>" := (dot ip x y) (at level 0, x at level 99, y at level 99).
Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

Definition quadratic x : R := <[x, D x]> / 2%:R.

Lemma quadratic_expansion x y :
  quadratic y = quadratic x + <[D x, y - x]> + <[y - x, D (y - x)]> / 2%:R.
Proof.
have D_diff : D (y - x) = D y - D x by exact: linearB.
rewrite /quadratic D_diff !dotBr !dotBl (self_adjoint x x) (self_adjoint x y) (dotC ip y (D x)).
by rewrite self_adjoint; field.
Qed.

Theorem quadratic_smooth L : (forall v, <[v, D v]> <= L * |[v]|) ->
  forall x y, descent_at ip quadratic D L x y.
Proof.
move=> D_le x y; rewrite /descent_at (quadratic_expansion x y) ler_add2l.
by rewrite mulrAC ler_pmul2r ?invr_gt0 ?ltr0n.
Qed.

Theorem quadratic_pl mu : 0 < mu -> (forall v, mu * |[v]| <= <[v, D v]>) ->
  (forall x, 0 <= quadratic x) /\ (forall x, pl_at ip quadratic D mu 0 x).
Proof.
move=> mu_gt0 D_ge; split=> x.
  by rewrite mulr_ge0 ?invr_ge0 ?ler0n // (le_trans _ (D_ge x)) ?mulr_ge0 ?sqnorm_ge0 ?ltW.
rewrite /pl_at subr0; apply: le_trans (mu_dot_le mu_gt0 (D_ge x)).
by rewrite le_eqVlt; apply/orP; left; apply/eqP; rewrite /quadratic; field.
Qed.

End Quadratic.

(* ---- R^n ---------------------------------------------------------------- *)

Section Euclidean.

Variables (R : realFieldType) (n : nat).
Implicit Types (x y : 'rV[R]_n).

Definition euclidean : innerProduct [lmodType R of 'rV[R]_n].
Proof.
exists (fun x y : 'rV[R]_n => \sum_i x 0 i * y 0 i) => [x y z|a x y|x y|x|x].
- by rewrite -big_split; apply: eq_bigr => i _; rewrite mxE mulrDl.
- by rewrite mulr_sumr; apply: eq_bigr => i _; rewrite mxE mulrA.
- by apply: eq_bigr => i _; rewrite mulrC.
- by apply: sumr_ge0 => i _; rewrite -expr2 sqr_ge0.
- move=> /eqP; rewrite psumr_eq0 => [/allP x0|i _]; last by rewrite -expr2 sqr_ge0.
  apply/rowP => i; rewrite mxE; apply/eqP; rewrite -sqrf_eq0 expr2.
  by apply: (implyP (x0 i _)); rewrite ?mem_index_enum.
Defined.

Variable d : 'rV[R]_n.

Lemma scale_rows_linear : linear (fun x : 'rV[R]_n => x *m diag_mx d).
Proof. by move=> a x y; rewrite mulmxDl scalemxAl. Qed.

(* x -> (d_i x_i)_i. *)
Definition diagonal := Linear scale_rows_linear.

Lemma dot_diagonal x y : dot euclidean x (diagonal y) = \sum_i d 0 i * (x 0 i * y 0 i).
Proof. by apply: eq_bigr => i _; rewrite /= mul_mx_diag mxE mulrA mulrC. Qed.

Lemma diagonal_self_adjoint x y : dot euclidean (diagonal x) y = dot euclidean x (diagonal y).
Proof. by rewrite dotC !dot_diagonal; apply: eq_bigr => i _; rewrite (mulrC (y 0 i)). Qed.

Lemma diagonal_le L : (forall i, d 0 i <= L) ->
  forall v, dot euclidean v (diagonal v) <= L * sqnorm euclidean v.
Proof.
move=> d_le v; rewrite dot_diagonal mulr_sumr; apply: ler_sum => i _.
by rewrite ler_wpmul2r // -expr2 sqr_ge0.
Qed.

Lemma diagonal_ge mu : (forall i, mu <= d 0 i) ->
  forall v, mu * sqnorm euclidean v <= dot euclidean v (diagonal v).
Proof.
move=> d_ge v; rewrite dot_diagonal mulr_sumr; apply: ler_sum => i _.
by rewrite ler_wpmul2r // -expr2 sqr_ge0.
Qed.

End Euclidean.

(* ---- Runs --------------------------------------------------------------- *)

Section Runs.

Variables (R : realFieldType) (V : lmodType R).
Variables (g : V -> V) (error : nat -> V -> V) (eta : R) (x0 : V).

(* Gradient descent from x0 with the error as a function of the step and the point. *)
Fixpoint descend t : V := if t is t'.+1 then step g eta (descend t') (error t' (descend t')) else x0.

Lemma descend_run T : is_run g T (fun=> eta) descend (fun t => error t (descend t)).
Proof. by []. Qed.

End Runs.

(* The hypotheses of T16, T17 (with any delta < 1) and T18 hold together, in R^n for every n, for every
   start, every step eta <= 1/L and every number of steps. *)
Theorem T17_T18_satisfiable (R : realFieldType) n (d : 'rV[R]_n) (mu L eta delta : R) (x0 : 'rV[R]_n) T :
  0 < mu -> (forall i, mu <= d 0 i) -> (forall i, d 0 i <= L) -> 0 < eta -> eta <= L^-1 ->
  0 <= delta -> delta < 1 ->
  let ip := euclidean R n in
  let f := quadratic ip (diagonal d) in
  let g : 'rV[R]_n -> 'rV[R]_n := diagonal d in
  exists (x e : nat -> 'rV[R]_n), x 0%N = x0 /\
  [/\ is_run g T (fun=> eta) x e,
      forall t, (t < T)%N -> descent_at ip f g L (x t) (x t.+1),
      forall t, (t <= T)%N -> 0 <= f (x t),
      forall t, (t < T)%N -> pl_at ip f g mu 0 (x t)
    & forall t, (t < T)%N -> sqnorm ip (e t) = delta ^+ 2 * sqnorm ip (g (x t))].
Proof.
move=> mu_gt0 d_ge d_le eta_gt0 eta_le delta_ge0 delta_lt1 ip f g.
have smooth := quadratic_smooth (@diagonal_self_adjoint R n d) (diagonal_le d_le).
have [f_ge0 pl] := quadratic_pl mu_gt0 (diagonal_ge d_ge).
pose x := descend g (fun _ x => delta *: g x) eta x0.
exists x, (fun t => delta *: g (x t)).
by split=> //; split=> [|t _|t _|t _|t _] //; rewrite ?sqnormZ //; exact: smooth.
Qed.

(* ---- Sharpness: f = L/2 |x|^2 -------------------------------------------- *)

Section Sharp.

Variables (R : realFieldType) (V : lmodType R) (ip : innerProduct V) (L : R).
Hypothesis L_gt0 : 0 < L.
Implicit Types (x e : V).

Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

Definition bowl x : R := L / 2%:R * |[x]|.
Definition bowl_gradient x : V := L *: x.

Let L_neq0 : L != 0. Proof. exact: lt0r_neq0. Qed.

Lemma bowl_ge0 x : 0 <= bowl x.
Proof. by rewrite mulr_ge0 ?sqnorm_ge0 ?divr_ge0 ?ler0n ?ltW. Qed.

Lemma bowl_smooth x y : descent_at ip bowl bowl_gradient L x y.
Proof.
rewrite /descent_at /bowl dotZl sqnormB dotBr (dotC ip x y) -/(sqnorm ip x).
by rewrite le_eqVlt; apply/orP; left; apply/eqP; field.
Qed.

Lemma bowl_pl x : pl_at ip bowl bowl_gradient L 0 x.
Proof.
by rewrite /pl_at /bowl /bowl_gradient sqnormZ subr0 le_eqVlt; apply/orP; left; apply/eqP; field.
Qed.

Lemma bowl_step x e : step bowl_gradient L^-1 x e = - (L^-1 *: e).
Proof. by rewrite /step scalerDr scalerA mulVf // scale1r opprD addrA subrr add0r. Qed.

Theorem T16_sharp x e : bowl (step bowl_gradient L^-1 x e) =
  bowl x - L^-1 / 2%:R * |[bowl_gradient x]| + L^-1 / 2%:R * |[e]|.
Proof. by rewrite bowl_step /bowl /bowl_gradient sqnormN !sqnormZ; field. Qed.

(* One step without error. *)
Theorem T17_sharp x :
  |[bowl_gradient x]| = 2%:R * (bowl x - 0) / (L^-1 * 1%:R) + |[0 : V]|.
Proof. by rewrite sqnorm0 /bowl /bowl_gradient sqnormZ; field. Qed.

(* Any errors of relative length delta: the factor is delta^2 = 1 - eta mu (1 - delta^2) at each step. *)
Theorem T18_sharp T delta (x e : nat -> V) :
  is_run bowl_gradient T (fun=> L^-1) x e ->
  (forall t, (t < T)%N -> |[e t]| = delta ^+ 2 * |[bowl_gradient (x t)]|) ->
  bowl (x T) - 0 = (1 - L^-1 * L * (1 - delta ^+ 2)) ^+ T * (bowl (x 0%N) - 0).
Proof.
have -> : 1 - L^-1 * L * (1 - delta ^+ 2) = delta ^+ 2 by rewrite mulVf // mul1r opprB addrCA subrr addr0.
rewrite !subr0; elim: T => [|T IH] run rel; first by rewrite expr0 mul1r.
have bowl_T := IH (fun t tT => run t (ltnW tT)) (fun t tT => rel t (ltnW tT)).
rewrite exprS -mulrA -bowl_T run // bowl_step /bowl sqnormN sqnormZ rel // /bowl_gradient sqnormZ.
by field.
Qed.

End Sharp.

(* ---- T19: a coin for noise ----------------------------------------------- *)

Section Coin.

Variables (R : realFieldType) (V : lmodType R) (ip : innerProduct V) (L : R) (b u : V).
Hypothesis L_gt0 : 0 < L.

Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

Definition coin : probability R [finType of bool].
Proof.
exists (fun=> 2%:R^-1) => [w|]; first by rewrite invr_ge0 ler0n.
by rewrite big_bool /=; field.
Defined.

(* The gradient, a bias b, and noise u or - u. *)
Definition coin_estimate (t : nat) (x : V) (heads : bool) : V :=
  bowl_gradient L x + b + (if heads then u else - u).

Lemma coin_mean t x : mean_estimate coin coin_estimate t x = bowl_gradient L x + b.
Proof.
rewrite /mean_estimate big_bool /= -scalerDr /coin_estimate addrACA subrr addr0 -mulr2n.
by rewrite -scaler_nat scalerA mulVf ?scale1r // pnatr_eq0.
Qed.

Lemma coin_bias t x : bias coin (bowl_gradient L) coin_estimate t x = b.
Proof. by rewrite /bias coin_mean addrC addKr. Qed.

Lemma coin_variance t x : variance coin ip coin_estimate t x = |[u]|.
Proof.
rewrite /variance big_bool /= coin_mean /coin_estimate !(addrC (_ + b)) !addrK sqnormN.
by field.
Qed.

(* One step with eta = 1/L: the inequality behind T19 is an equation, bias and noise add up. *)
Theorem T19_step_sharp t x :
  expectation coin (fun heads => bowl ip L (x - L^-1 *: coin_estimate t x heads)) =
  bowl ip L x - L^-1 / 2%:R * |[bowl_gradient L x]| + L^-1 / 2%:R * |[b]| + L * L^-1 ^+ 2 / 2%:R * |[u]|.
Proof.
have L_neq0 : L != 0 by exact: lt0r_neq0.
have next heads : bowl ip L (x - L^-1 *: coin_estimate t x heads) =
    L^-1 / 2%:R * |[b + (if heads then u else - u)]|.
  have -> : x - L^-1 *: coin_estimate t x heads = step (bowl_gradient L) L^-1 x (b + (if heads then u else - u)).
    by rewrite /step /coin_estimate addrA.
  by rewrite bowl_step // /bowl sqnormN sqnormZ; field.
rewrite /expectation big_bool /= !next sqnormD sqnormB /bowl /bowl_gradient sqnormZ.
by field.
Qed.

(* T19 applies: every hypothesis is met, with beta and sigma the lengths of b and u. *)
Theorem T19_satisfiable T eta beta sigma x0 :
  (0 < T)%N -> 0 < eta -> eta <= L^-1 -> |[b]| = beta ^+ 2 -> |[u]| = sigma ^+ 2 ->
  T%:R^-1 * (\sum_(t < T) expectation (draws coin T)
    (fun w => |[bowl_gradient L (iterate coin_estimate eta x0 t w)]|)) <=
    2%:R * (bowl ip L x0 - 0) / (eta * T%:R) + beta ^+ 2 + L * eta * sigma ^+ 2.
Proof.
move=> T_gt0 eta_gt0 eta_le bb uu.
apply: (@T19_independent_draws _ _ coin T _ ip (bowl ip L) (bowl_gradient L) coin_estimate) => //.
- by move=> t w _; exact: bowl_smooth.
- by move=> w; exact: bowl_ge0.
- by move=> t w _; rewrite coin_bias bb.
- by move=> t w _; rewrite coin_variance uu.
Qed.

End Coin.
