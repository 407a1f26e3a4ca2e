(* Stochastic gradient descent with a bias: T19.

   The process is T steps x_{t+1} = x_t - eta (g x_t + b_t + nu_t) on a finite probability space
   (a finType of outcomes, weights that are not negative and sum to 1).  The past is a map
   `past t` on outcomes; x_t and b_t are functions of it, and on every event `past t = s` the noise
   nu_t has mean zero and variance at most sigma^2.  `past := x` is conditioning on x_t.

   `T19_rate` is about any such process.  `T19_independent_draws` builds one: at each step a draw
   (a mini-batch) is taken independently from a finite set, the outcomes are the T-tuples of draws
   with product weights, b_t is the mean over draws of the estimate minus the gradient, nu_t is the
   rest; what `T19_rate` asks of the noise is then proved, not assumed.

   Hypotheses that a numerical check certifies: |b_t|^2 <= beta^2 by the mean over batches of the
   bounds of T13 (compression is deterministic given the batch).  L, sigma and f_inf are assumed. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import inner_product convergence.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* ---- Finite probability spaces ----------------------------------------- *)

Record probability (R : realFieldType) (Omega : finType) := Probability {
  weight :> Omega -> R;
  weight_ge0 : forall w, 0 <= weight w;
  weight_sum : \sum_w weight w = 1
}.

Definition expectation (R : realFieldType) (Omega : finType) (p : probability R Omega)
  (F : Omega -> R) := \sum_w p w * F w.

Section Conditioning.

Variables (R : realFieldType) (Omega : finType) (p : probability R Omega).
Implicit Types (F G : Omega -> R).

Lemma expectationD F G : expectation p (fun w => F w + G w) = expectation p F + expectation p G.
Proof. by rewrite /expectation -big_split; apply: eq_bigr => w _; rewrite mulrDr. Qed.

Lemma expectationZ a F : expectation p (fun w => a * F w) = a * expectation p F.
Proof. by rewrite /expectation mulr_sumr; apply: eq_bigr => w _; rewrite mulrCA. Qed.

Lemma expectation_const a : expectation p (fun=> a) = a.
Proof. by rewrite /expectation -mulr_suml weight_sum mul1r. Qed.

Lemma expectation_le F G : (forall w, F w <= G w) -> expectation p F <= expectation p G.
Proof. by move=> FG; apply: ler_sum => w _; rewrite ler_wpmul2l ?weight_ge0. Qed.

(* What holds on every event of the past, that is on the outcomes with the past of w0, adds up. *)
Lemma sum_le_by_past (S : eqType) (past : Omega -> S) F G :
  (forall w0, \sum_(w | past w == past w0) F w <= \sum_(w | past w == past w0) G w) ->
  \sum_w F w <= \sum_w G w.
Proof.
pose event w : {set Omega} := [set w' | past w' == past w].
have eventE w w0 : (event w == event w0) = (past w == past w0).
  apply/eqP/eqP => [/setP /(_ w)|eq_past]; first by rewrite !inE eqxx => /esym /eqP.
  by apply/setP=> w'; rewrite !inE eq_past.
move=> le_event; rewrite (partition_big event predT) // [leRHS](partition_big event predT) //=.
apply: ler_sum => C _; have [/existsP [w0 /eqP <-]|/existsPn none] := boolP [exists w, event w == C].
  by under eq_bigl do rewrite eventE; under [leRHS]eq_bigl do rewrite eventE.
by rewrite !big_pred0 // => w; apply/negbTE/none.
Qed.

Section Noise.

Variables (V : lmodType R) (ip : innerProduct V) (S : eqType) (past : Omega -> S).
Implicit Types (u nu : Omega -> V) (sigma : R).

Local Notation "<[ x , y ]>" := (dot ip x y) (at level 0, x at level 99, y at level 99).
Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

Definition known (U : Type) (F : Omega -> U) := forall w w', past w = past w' -> F w = F w'.

Definition mean_zero_given nu := forall w0, \sum_(w | past w == past w0) p w *: nu w = 0.

Definition variance_at_most_given sigma nu := forall w0,
  \sum_(w | past w == past w0) p w * |[nu w]| <= sigma ^+ 2 * (\sum_(w | past w == past w0) p w).

(* Noise is orthogonal in the mean to what is known. *)
Lemma expectation_known_noise u nu :
  known u -> mean_zero_given nu -> expectation p (fun w => <[u w, nu w]>) = 0.
Proof.
move=> u_known nu0.
have event0 w0 : \sum_(w | past w == past w0) p w * <[u w, nu w]> = 0.
  rewrite (eq_bigr (fun w => <[u w0, p w *: nu w]>)) -?dot_sumr ?nu0 ?dot0r // => w /eqP w_w0.
  by rewrite dotZr (u_known w w0).
have sum0 w0 : \sum_(w | past w == past w0) (0 : R) = 0 by rewrite big1.
have all0 : \sum_(w : Omega) (0 : R) = 0 by rewrite big1.
apply: le_anti; apply/andP; split; [rewrite -[leRHS]all0|rewrite -[leLHS]all0].
  by apply: (@sum_le_by_past _ past) => w0; rewrite event0 sum0.
by apply: (@sum_le_by_past _ past) => w0; rewrite event0 sum0.
Qed.

Lemma expectation_variance sigma nu :
  variance_at_most_given sigma nu -> expectation p (fun w => |[nu w]|) <= sigma ^+ 2.
Proof.
move=> var; rewrite -[leRHS]mulr1 -(weight_sum p) mulr_sumr.
by apply: (@sum_le_by_past _ past) => w0; rewrite -mulr_sumr.
Qed.

End Noise.
End Conditioning.

(* ---- T19 --------------------------------------------------------------- *)

Section Stochastic.

Variables (R : realFieldType) (V : lmodType R) (ip : innerProduct V).
Variables (f : V -> R) (g : V -> V).
Variables (Omega : finType) (p : probability R Omega).

Local Notation "<[ x , y ]>" := (dot ip x y) (at level 0, x at level 99, y at level 99).
Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).
Local Notation mean := (expectation p).

(* One outcome of one step: T16 with the noise kept apart. *)
Lemma noisy_step L eta (x b nu : V) :
  0 < eta -> eta <= L^-1 -> descent_at ip f g L x (step g eta x (b + nu)) ->
  f (step g eta x (b + nu)) <=
    f x + eta / 2%:R * (|[b]| - |[g x]|) + L * eta ^+ 2 / 2%:R * |[nu]|
    + <[(L * eta ^+ 2) *: (g x + b) - eta *: g x, nu]>.
Proof.
move=> eta_gt0 eta_le; rewrite /descent_at.
have L_gt0 : 0 < L by rewrite -invr_gt0; apply: lt_le_trans eta_le.
have -> : step g eta x (b + nu) - x = - (eta *: (g x + b + nu)).
  by rewrite /step addrC addKr addrA.
have slack : 0 <= eta / 2%:R * (1 - L * eta) * |[g x + b]|.
  rewrite !mulr_ge0 ?invr_ge0 ?ler0n ?sqnorm_ge0 ?(ltW eta_gt0) // subr_ge0.
  by rewrite -ler_pdivl_mull // mulr1.
rewrite dotNr dotZr sqnormN sqnormZ => le_f.
apply: le_same_slack (ler_add le_f slack) _.
rewrite !sqnormD dotBl !dotZl !dotDl !dotDr -/(sqnorm ip (g x)); by field.
Qed.

Section Process.

Variables (T : nat) (L eta f_inf : R) (x0 : V) (x b nu : nat -> Omega -> V).
Hypothesis T_gt0 : (0 < T)%N.
Hypothesis eta_gt0 : 0 < eta.
Hypothesis eta_le : eta <= L^-1.
Hypothesis start : forall w, x 0%N w = x0.
Hypothesis run : forall t w, (t < T)%N -> x t.+1 w = step g eta (x t w) (b t w + nu t w).
Hypothesis smooth : forall t w, (t < T)%N -> descent_at ip f g L (x t w) (x t.+1 w).
Hypothesis f_inf_le : forall w, f_inf <= f (x T w).

Variables (S : eqType) (past : nat -> Omega -> S).
Hypothesis x_known : forall t, (t < T)%N -> known (past t) (x t).
Hypothesis b_known : forall t, (t < T)%N -> known (past t) (b t).
Hypothesis nu_mean : forall t, (t < T)%N -> mean_zero_given p (past t) (nu t).

(* One step in the mean. *)
Lemma expected_step t : (t < T)%N ->
  mean (fun w => f (x t.+1 w)) <=
    mean (fun w => f (x t w)) - eta / 2%:R * mean (fun w => |[g (x t w)]|)
    + eta / 2%:R * mean (fun w => |[b t w]|) + L * eta ^+ 2 / 2%:R * mean (fun w => |[nu t w]|).
Proof.
move=> tT.
pose u w := (L * eta ^+ 2) *: (g (x t w) + b t w) - eta *: g (x t w).
have u_known : known (past t) u.
  by move=> w w' ww'; rewrite /u (x_known tT ww') (b_known tT ww').
have := expectation_le p (fun w => _ : f (x t.+1 w) <=
    f (x t w) + - (eta / 2%:R) * |[g (x t w)]| + eta / 2%:R * |[b t w]|
    + L * eta ^+ 2 / 2%:R * |[nu t w]| + <[u w, nu t w]>).
rewrite !expectationD !expectationZ (expectation_known_noise ip u_known (nu_mean tT)).
rewrite addr0 mulNr; apply=> w; rewrite run //.
have := smooth w tT; rewrite run // => /(noisy_step eta_gt0 eta_le) /le_trans; apply.
rewrite -/(u w) le_eqVlt; apply/orP; left; apply/eqP; by field.
Qed.

(* With the mean squares of bias and noise as they are. *)
Theorem T19_mean_squares :
  T%:R^-1 * (\sum_(t < T) mean (fun w => |[g (x t w)]|)) <=
    2%:R * (f x0 - f_inf) / (eta * T%:R) + T%:R^-1 * (\sum_(t < T) mean (fun w => |[b t w]|))
    + L * eta * (T%:R^-1 * (\sum_(t < T) mean (fun w => |[nu t w]|))).
Proof.
have telescoped n : (n <= T)%N -> mean (fun w => f (x n w)) <=
    f x0 - eta / 2%:R * (\sum_(t < n) mean (fun w => |[g (x t w)]|))
    + eta / 2%:R * (\sum_(t < n) mean (fun w => |[b t w]|))
    + L * eta ^+ 2 / 2%:R * (\sum_(t < n) mean (fun w => |[nu t w]|)).
  elim: n => [|n IH] nT.
    rewrite !big_ord0 !mulr0 subr0 !addr0 -(expectation_const p (f x0)).
    by apply: expectation_le => w; rewrite start.
  rewrite !big_ord_recr /=.
  move: (ler_add (IH (ltnW nT)) (expected_step nT)) => /le_same_slack; apply.
  set X := \sum_(t < n) _; set B := \sum_(t < n) _; set N := \sum_(t < n) _; ring.
have le_T : f_inf <= mean (fun w => f (x T w)).
  by rewrite -(expectation_const p f_inf); exact: expectation_le.
move: (le_trans le_T (telescoped T (leqnn T))).
set X := \sum_(t < T) _; set B := \sum_(t < T) _; set N := \sum_(t < T) _ => le_f.
have T_pos : 0 < T%:R :> R by rewrite ltr0n.
have c_gt0 : 0 < 2%:R / (eta * T%:R) :> R by rewrite divr_gt0 ?mulr_gt0 ?ltr0n.
apply: le_same_slack (ler_wpmul2l (ltW c_gt0) le_f) _.
by field; rewrite !gt_eqF.
Qed.

Theorem T19_rate beta sigma :
  (forall t w, (t < T)%N -> |[b t w]| <= beta ^+ 2) ->
  (forall t, (t < T)%N -> variance_at_most_given p ip (past t) sigma (nu t)) ->
  T%:R^-1 * (\sum_(t < T) mean (fun w => |[g (x t w)]|)) <=
    2%:R * (f x0 - f_inf) / (eta * T%:R) + beta ^+ 2 + L * eta * sigma ^+ 2.
Proof.
move=> bias var; apply: le_trans T19_mean_squares _.
have T_pos : 0 < T%:R :> R by rewrite ltr0n.
have mean_le (F : nat -> R) a : (forall t, (t < T)%N -> F t <= a) ->
    T%:R^-1 * (\sum_(t < T) F t) <= a.
  move=> Fa; rewrite -[leRHS](mulKf (lt0r_neq0 T_pos)) ler_pmul2l ?invr_gt0 //.
  have : \sum_(t < T) F t <= \sum_(t < T) a by apply: ler_sum => t _; exact: Fa.
  by rewrite sumr_const card_ord mulr_natl.
have L_gt0 : 0 < L by rewrite -invr_gt0; apply: lt_le_trans eta_le.
apply: ler_add; [apply: ler_add => //|rewrite ler_wpmul2l ?mulr_ge0 ?(ltW L_gt0) ?(ltW eta_gt0) //].
  apply: (mean_le (fun t => mean (fun w => |[b t w]|))) => t tT; rewrite -(expectation_const p (beta ^+ 2)).
  by apply: expectation_le => w; exact: bias.
apply: (mean_le (fun t => mean (fun w => |[nu t w]|))) => t tT.
exact: expectation_variance (var t tT).
Qed.

End Process.
End Stochastic.

(* ---- Independent draws ------------------------------------------------- *)

Section Draws.

Variables (R : realFieldType) (Xi : finType) (q : probability R Xi) (T : nat).

Local Notation outcomes := {ffun 'I_T -> Xi}.

Definition draws_weight (w : outcomes) : R := \prod_i q (w i).

Lemma draws_weight_ge0 w : 0 <= draws_weight w.
Proof. by apply: prodr_ge0 => i _; exact: weight_ge0. Qed.

Lemma draws_weight_sum : \sum_w draws_weight w = 1.
Proof. rewrite -(bigA_distr_bigA (fun=> q)); apply: big1 => i _; exact: weight_sum. Qed.

Definition draws : probability R [finType of outcomes] :=
  Probability draws_weight_ge0 draws_weight_sum.

Definition redraw (w : outcomes) i xi : outcomes := [ffun j => if j == i then xi else w j].

Lemma redraw_same w i xi : redraw w i xi i = xi.
Proof. by rewrite ffunE eqxx. Qed.

Lemma redraw_weight (w : outcomes) i xi : q (w i) * draws_weight (redraw w i xi) = q xi * draws_weight w.
Proof.
rewrite /draws_weight (bigD1 i) //= [in RHS](bigD1 i) //= redraw_same mulrCA; congr (_ * (_ * _)).
by apply: eq_bigr => j /negbTE j_neq; rewrite ffunE j_neq.
Qed.

(* On an event that the draw at i does not enter, that draw has its own distribution. *)
Lemma draw_independent (U : lmodType R) i (event : pred outcomes) (F : Xi -> U) :
  (forall w xi, event (redraw w i xi) = event w) ->
  \sum_(w | event w) draws w *: F (w i) =
  (\sum_(w | event w) draws w) *: \sum_xi q xi *: F xi.
Proof.
move=> event_redraw.
have -> : \sum_(w | event w) draws w *: F (w i) =
    \sum_(w | event w) \sum_xi (q xi * draws w) *: F (w i).
  by apply: eq_bigr => w _; rewrite -scaler_suml -mulr_suml weight_sum mul1r.
rewrite pair_big_dep /=.
pose swap (z : outcomes * Xi) := (redraw z.1 i z.2, z.1 i).
have swapK : involutive swap.
  case=> w xi; rewrite /swap /= redraw_same; congr (_, _).
  by apply/ffunP => j; rewrite !ffunE; case: eqP => [->|].
rewrite (reindex_inj (inv_inj swapK)) /= scaler_suml.
under [RHS]eq_bigr do rewrite scaler_sumr.
rewrite [RHS]pair_big_dep /=; apply: eq_big => [[w xi]|[w xi] _] /=; first by rewrite event_redraw.
by rewrite redraw_same redraw_weight scalerA mulrC.
Qed.

Variables (V : lmodType R) (ip : innerProduct V) (f : V -> R) (g : V -> V).
Variables (estimate : nat -> V -> Xi -> V) (eta : R) (x0 : V).

Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

(* Stochastic gradient descent: step t uses draw t and no other. *)
Fixpoint iterate t (w : outcomes) : V :=
  if t is t'.+1 then
    let x := iterate t' w in
    if insub t' is Some i then x - eta *: estimate t' x (w i) else x
  else x0.

Definition mean_estimate t x := \sum_xi q xi *: estimate t x xi.
Definition bias t x := mean_estimate t x - g x.
Definition variance t x := \sum_xi q xi * |[estimate t x xi - mean_estimate t x]|.

(* The draws before step t. *)
Definition earlier t (w : outcomes) : {ffun 'I_T -> option Xi} :=
  [ffun i : 'I_T => if (i < t)%N then Some (w i) else None].

Definition noise t (w : outcomes) : V :=
  if insub t is Some i then estimate t (iterate t w) (w i) - mean_estimate t (iterate t w) else 0.

Lemma earlier_iterate t : known (earlier t) (iterate t).
Proof.
elim: t => // t IH w w' /ffunP eq_w /=.
have -> : iterate t w = iterate t w'.
  apply: IH; apply/ffunP => i; have := eq_w i; rewrite !ffunE.
  by case: (ltnP i t) => // it; rewrite ltnS ltnW.
case: insubP => // i _ it; have := eq_w i; rewrite !ffunE it ltnSn.
by case=> ->.
Qed.

Lemma earlier_redraw (w : outcomes) (i : 'I_T) xi : earlier i (redraw w i xi) = earlier i w.
Proof. by apply/ffunP => j; rewrite !ffunE; case: ltnP => // ji; rewrite -val_eqE ltn_eqF. Qed.

Lemma iterate_step t w : (t < T)%N ->
  iterate t.+1 w = step g eta (iterate t w) (bias t (iterate t w) + noise t w).
Proof.
move=> tT; rewrite /= /noise insubT /step /bias; congr (_ - _ *: _).
by rewrite addrA (addrC (g _)) subrK addrC subrK.
Qed.

Lemma sum_given_earlier (U : lmodType R) (i : 'I_T) w0 (F : Xi -> U) :
  \sum_(w | earlier i w == earlier i w0) draws w *: F (w i) =
  (\sum_(w | earlier i w == earlier i w0) draws w) *: \sum_xi q xi *: F xi.
Proof. by apply: draw_independent => w xi; rewrite earlier_redraw. Qed.

Lemma noise_mean t : mean_zero_given draws (earlier t) (noise t).
Proof.
move=> w0; rewrite /noise; case: insubP => [i _ it|_]; last by rewrite big1 // => w; rewrite scaler0.
rewrite -it; pose F xi := estimate i (iterate i w0) xi - mean_estimate i (iterate i w0).
rewrite (eq_bigr (fun w => draws w *: F (w i))); last first.
  by move=> w /eqP /earlier_iterate eq_x; rewrite /F -eq_x.
rewrite sum_given_earlier /F; under [X in _ *: X]eq_bigr do rewrite scalerBr.
by rewrite sumrB -scaler_suml weight_sum scale1r subrr scaler0.
Qed.

Lemma noise_variance sigma t : (t < T)%N ->
  (forall w, variance t (iterate t w) <= sigma ^+ 2) ->
  variance_at_most_given draws ip (earlier t) sigma (noise t).
Proof.
move=> tT var w0; rewrite /noise insubT; set i := Sub t tT.
pose F xi : R^o := |[estimate t (iterate t w0) xi - mean_estimate t (iterate t w0)]|.
rewrite (eq_bigr (fun w => draws w *: F (w i))); last first.
  by move=> w /eqP /earlier_iterate eq_x; rewrite /F -eq_x.
rewrite (sum_given_earlier i) /GRing.scale /= mulrC; apply: ler_wpmul2r; last exact: var.
by apply: sumr_ge0 => w _; exact: draws_weight_ge0.
Qed.

Theorem T19_independent_draws L f_inf beta sigma :
  (0 < T)%N -> 0 < eta -> eta <= L^-1 ->
  (forall t w, (t < T)%N -> descent_at ip f g L (iterate t w) (iterate t.+1 w)) ->
  (forall w, f_inf <= f (iterate T w)) ->
  (forall t w, (t < T)%N -> |[bias t (iterate t w)]| <= beta ^+ 2) ->
  (forall t w, (t < T)%N -> variance t (iterate t w) <= sigma ^+ 2) ->
  T%:R^-1 * (\sum_(t < T) expectation draws (fun w => |[g (iterate t w)]|)) <=
    2%:R * (f x0 - f_inf) / (eta * T%:R) + beta ^+ 2 + L * eta * sigma ^+ 2.
Proof.
move=> T_gt0 eta_gt0 eta_le smooth f_inf_le small_bias small_variance.
apply: (@T19_rate _ _ ip f g _ draws T L eta f_inf x0 iterate
          (fun t w => bias t (iterate t w)) noise T_gt0 eta_gt0 eta_le _ _ _ _ _ earlier) => //.
- by move=> t w tT; exact: iterate_step.
- by move=> t _; exact: earlier_iterate.
- by move=> t _ w w' /earlier_iterate ->.
- by move=> t _; exact: noise_mean.
- by move=> t tT; apply: noise_variance => // w; exact: small_variance.
Qed.

End Draws.
