(* Convergence of gradient descent with an error in the gradient: T16, T17, T18.

   The step is x+ = x - eta (g x + e), g the gradient of f and e its error.  Smoothness is used
   through the descent inequality alone, and only at the pairs (x_t, x_{t+1}) of the run; smoothness.v
   derives it from a Lipschitz gradient, instances.v has functions that satisfy it.

   Hypotheses that a numerical check certifies, all at the steps that were taken:
   - `descent_at f g eta^-1 x x+` : the loss is evaluated at both ends of the step and compared
     (T16 is checked against the loss);
   - |e|^2 <= b^2 : b is the bound of T11, T12 and T13 on the error of the weight gradients, to which
     the bound of T15 on rounding is added;
   - |g x + e|^2 = n^2 : n is the norm of the gradient that was computed.
   With b and n alone, `certified_ratio` and `T17_condition` yield the relative error delta.

   Hypotheses that no check certifies: L where it is not local, mu in T18, f_inf (0 will do for a loss
   that is not negative).

   All norms are squared, so the field need not have roots. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import inner_product.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Convergence.

Variables (R : realFieldType) (V : lmodType R) (ip : innerProduct V).
Variables (f : V -> R) (g : V -> V).
Implicit Types (x y e : V) (L eta delta mu b n f_inf : R) (t T : nat).

Local Notation "<[ x , y ]>" := (dot ip x y) (at level 0, x at level 99, y at level 99).
Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

(* The descent inequality from x to y. *)
Definition descent_at L x y := f y <= f x + <[g x, y - x]> + L / 2%:R * |[y - x]|.

(* One step from x against the gradient and its error. *)
Definition step eta x e := x - eta *: (g x + e).

(* T steps, the error of each and its size of step. *)
Definition is_run T (eta : nat -> R) (x e : nat -> V) :=
  forall t, (t < T)%N -> x t.+1 = step (eta t) (x t) (e t).

Lemma descent_at_weaken L L' x y : L <= L' -> descent_at L x y -> descent_at L' x y.
Proof.
move=> LL' /le_trans; apply; rewrite ler_add2l ler_wpmul2r ?sqnorm_ge0 //.
by rewrite ler_wpmul2r // invr_ge0 ler0n.
Qed.

Lemma descent_at_inverse_step L eta x y :
  0 < eta -> eta <= L^-1 -> descent_at L x y -> descent_at eta^-1 x y.
Proof.
move=> eta_gt0 eta_le; apply: descent_at_weaken.
have L_gt0 : 0 < L by rewrite -invr_gt0; apply: lt_le_trans eta_le.
by rewrite -[L]invrK ler_pinv // inE ?unitf_gt0 ?invr_gt0 // ?andbT //= unitf_gt0 ?invr_gt0.
Qed.

(* ---- T16: one step ----------------------------------------------------- *)

(* The step in terms of the gradient that was computed: n^2 = |g + e|^2 falls, <e, g + e> rises. *)
Lemma step_value eta x e : 0 < eta -> descent_at eta^-1 x (step eta x e) ->
  f (step eta x e) <= f x - eta / 2%:R * |[g x + e]| + eta * <[e, g x + e]>.
Proof.
move=> eta_gt0; rewrite /descent_at.
have -> : step eta x e - x = - (eta *: (g x + e)) by rewrite /step addrC addKr.
rewrite dotNr dotZr sqnormN sqnormZ => /le_same_slack; apply.
rewrite [in RHS]/sqnorm dotDl /sqnorm [in LHS]dotDl.
by field; rewrite gt_eqF.
Qed.

Theorem T16_local eta x e : 0 < eta -> descent_at eta^-1 x (step eta x e) ->
  f (step eta x e) <= f x - eta / 2%:R * |[g x]| + eta / 2%:R * |[e]|.
Proof.
move=> eta_gt0 /(step_value eta_gt0) /le_same_slack; apply.
rewrite sqnormD dotDr (dotC ip e (g x)) -/(sqnorm ip e); by field.
Qed.

Theorem T16_descent L eta x e : 0 < eta -> eta <= L^-1 -> descent_at L x (step eta x e) ->
  f (step eta x e) <= f x - eta / 2%:R * |[g x]| + eta / 2%:R * |[e]|.
Proof. by move=> eta_gt0 eta_le /(descent_at_inverse_step eta_gt0 eta_le); exact: T16_local. Qed.

(* ---- What a certificate concludes from b and n -------------------------- *)

(* <e, g + e> <= n b, without roots. *)
Lemma error_along_gradient e y b n :
  0 <= b -> 0 <= n -> |[e]| <= b ^+ 2 -> |[y]| = n ^+ 2 -> <[e, y]> <= n * b.
Proof.
move=> b_ge0 n_ge0 eb yn; apply: le_trans (ler_norm _) _.
rewrite -(@ler_pexpn2r _ 2) ?nnegrE ?mulr_ge0 // real_normK ?num_real //.
by apply: le_trans (cauchy_schwarz ip e y) _; rewrite yn exprMn [n ^+ 2 * _]mulrC ler_wpmul2r ?sqr_ge0.
Qed.

Theorem T16_certified eta x e b n :
  0 < eta -> descent_at eta^-1 x (step eta x e) ->
  0 <= b -> 0 <= n -> |[e]| <= b ^+ 2 -> |[g x + e]| = n ^+ 2 ->
  f (step eta x e) <= f x - eta / 2%:R * (n ^+ 2 - 2%:R * n * b).
Proof.
move=> eta_gt0 /(step_value eta_gt0) fx b_ge0 n_ge0 eb gn; apply: le_trans fx _.
have: eta * <[e, g x + e]> <= eta * (n * b).
  by rewrite ler_wpmul2l ?(ltW eta_gt0) //; exact: error_along_gradient.
by move=> /le_same_slack; apply; rewrite gn; field.
Qed.

Theorem T16_certified_decrease eta x e b n :
  0 < eta -> descent_at eta^-1 x (step eta x e) ->
  0 <= b -> |[e]| <= b ^+ 2 -> |[g x + e]| = n ^+ 2 -> 2%:R * b < n ->
  f (step eta x e) <= f x - eta / 2%:R * (n ^+ 2 - 2%:R * n * b) /\ f (step eta x e) < f x.
Proof.
move=> eta_gt0 fx b_ge0 eb gn bn.
have n_gt0 : 0 < n by apply: le_lt_trans bn; rewrite mulr_ge0 ?ler0n.
have le_fx := T16_certified eta_gt0 fx b_ge0 (ltW n_gt0) eb gn.
split=> //; apply: le_lt_trans le_fx _.
have -> : n ^+ 2 - 2%:R * n * b = n * (n - 2%:R * b) by ring.
by rewrite ltr_subl_addr ltr_addl !mulr_gt0 ?invr_gt0 ?ltr0n ?subr_gt0.
Qed.

(* Triangle inequality without roots: |e| <= b and |y| = n yield (n - b) |e| <= b |y - e|. *)
Lemma error_to_exact e y b n : 0 <= b -> b <= n -> |[e]| <= b ^+ 2 -> |[y]| = n ^+ 2 ->
  (n - b) ^+ 2 * |[e]| <= b ^+ 2 * |[y - e]|.
Proof.
move=> b_ge0 bn eb yn; have n_ge0 := le_trans b_ge0 bn.
have [n0|n_neq0] := eqVneq n 0.
  have b0 : b = 0 by apply: le_anti; rewrite b_ge0 -n0 bn.
  by rewrite n0 b0 subrr expr0n /= !mul0r.
have n_gt0 : 0 < n by rewrite lt_neqAle eq_sym n_neq0.
have young_bn : 2%:R * b * <[y, e]> <= n * (b ^+ 2 + |[e]|).
  rewrite -(ler_pmul2l n_gt0); apply: le_same_slack (sqnorm_ge0 ip (b *: y - n *: e)) _.
  by rewrite sqnormB !sqnormZ dotZl dotZr yn; ring.
have slack : 0 <= n * (n - b) * (b ^+ 2 - |[e]|) by rewrite !mulr_ge0 ?subr_ge0.
rewrite sqnormB yn.
have le_sum := ler_add slack (ler_wpmul2l b_ge0 young_bn).
apply: le_same_slack le_sum _; ring.
Qed.

(* The condition under T17: b <= delta / (1 + delta) n, all of it known at runtime. *)
Theorem T17_condition x e b n delta :
  0 <= b -> 0 <= n -> 0 <= delta -> |[e]| <= b ^+ 2 -> |[g x + e]| = n ^+ 2 ->
  b * (1 + delta) <= delta * n -> |[e]| <= delta ^+ 2 * |[g x]|.
Proof.
move=> b_ge0 n_ge0 delta_ge0 eb gn cond.
have e_le y : |[e]| <= 0 -> |[e]| <= delta ^+ 2 * |[y]|.
  by move=> /le_trans; apply; rewrite mulr_ge0 ?sqr_ge0 ?sqnorm_ge0.
have b_le : b <= delta * (n - b) by apply: le_same_slack cond _; ring.
have [nb|nb] := leP n b.
  apply: e_le; apply: le_trans eb _.
  have b_le0 : b <= 0 by apply: le_trans b_le _; rewrite mulr_ge0_le0 ?subr_le0.
  have -> : b = 0 by apply: le_anti; rewrite b_le0.
  by rewrite expr0n.
have nb_gt0 : 0 < (n - b) ^+ 2 by rewrite exprn_gt0 ?subr_gt0.
have := error_to_exact b_ge0 (ltW nb) eb gn; rewrite addrK => le_nb.
rewrite -(ler_pmul2l nb_gt0); apply: le_trans le_nb _.
rewrite mulrA -exprMn ler_wpmul2r ?sqnorm_ge0 // ler_pexpn2r ?nnegrE ?mulr_ge0 //.
- by rewrite mulrC.
- by rewrite subr_ge0 ltW.
Qed.

Theorem certified_ratio x e b n : 0 <= b -> |[e]| <= b ^+ 2 -> |[g x + e]| = n ^+ 2 ->
  2%:R * b < n ->
  [/\ 0 <= b / (n - b), b / (n - b) < 1 & |[e]| <= (b / (n - b)) ^+ 2 * |[g x]|].
Proof.
move=> b_ge0 eb gn bn.
have b_lt : b < n - b by rewrite ltr_subr_addr; apply: le_lt_trans bn; rewrite mulr_natl mulr2n.
have nb_gt0 : 0 < n - b := le_lt_trans b_ge0 b_lt.
have ratio_ge0 : 0 <= b / (n - b) by rewrite divr_ge0 // ltW.
split=> //; first by rewrite ltr_pdivr_mulr ?mul1r.
apply: (T17_condition b_ge0 _ ratio_ge0 eb gn).
  by apply: ltW; apply: le_lt_trans bn; rewrite mulr_ge0 ?ler0n.
by rewrite le_eqVlt; apply/orP; left; apply/eqP; field; rewrite gt_eqF.
Qed.

(* ---- T17: T steps ------------------------------------------------------ *)

(* The values telescope; any sizes of steps. *)
Theorem T17_telescoped T (eta : nat -> R) (x e : nat -> V) :
  is_run T eta x e ->
  (forall t, (t < T)%N -> 0 < eta t) ->
  (forall t, (t < T)%N -> descent_at (eta t)^-1 (x t) (x t.+1)) ->
  f (x T) <= f (x 0%N) - \sum_(t < T) eta t / 2%:R * |[g (x t)]|
                       + \sum_(t < T) eta t / 2%:R * |[e t]|.
Proof.
elim: T => [|T IH] run eta_gt0 fx; first by rewrite !big_ord0 subr0 addr0.
have /IH IH' : is_run T eta x e by move=> t tT; apply: run; apply: ltnW.
have {IH'} fT := IH' (fun t tT => eta_gt0 t (ltnW tT)) (fun t tT => fx t (ltnW tT)).
have := fx T (ltnSn T); rewrite run // => /(T16_local (eta_gt0 T (ltnSn T))).
rewrite -run // !big_ord_recr /= => fT1.
move: (ler_add fT fT1) => /le_same_slack; apply.
set G := \sum_(t < T) _; set E := \sum_(t < T) eta t / _ * |[e t]|; ring.
Qed.

(* What a certificate knows of a run: the loss has fallen by at least this. *)
Theorem T17_certified T (eta b n : nat -> R) (x e : nat -> V) :
  is_run T eta x e ->
  (forall t, (t < T)%N -> 0 < eta t) ->
  (forall t, (t < T)%N -> descent_at (eta t)^-1 (x t) (x t.+1)) ->
  (forall t, (t < T)%N -> [/\ 0 <= b t, 0 <= n t, |[e t]| <= b t ^+ 2
                            & |[g (x t) + e t]| = n t ^+ 2]) ->
  f (x T) <= f (x 0%N) - \sum_(t < T) eta t / 2%:R * (n t ^+ 2 - 2%:R * n t * b t).
Proof.
elim: T => [|T IH] run eta_gt0 fx cert; first by rewrite big_ord0 subr0.
have fT := IH (fun t tT => run t (ltnW tT)) (fun t tT => eta_gt0 t (ltnW tT))
              (fun t tT => fx t (ltnW tT)) (fun t tT => cert t (ltnW tT)).
have [b_ge0 n_ge0 eb gn] := cert T (ltnSn T).
have := fx T (ltnSn T); rewrite run // => fxT.
have := T16_certified (eta_gt0 T (ltnSn T)) fxT b_ge0 n_ge0 eb gn.
rewrite -run // big_ord_recr /= => fT1.
move: (ler_add fT fT1) => /le_same_slack; apply.
by set S := \sum_(t < T) _; field.
Qed.

Section ConstantStep.

Variables (T : nat) (eta f_inf : R) (x e : nat -> V).
Hypothesis run : is_run T (fun=> eta) x e.
Hypothesis T_gt0 : (0 < T)%N.
Hypothesis eta_gt0 : 0 < eta.
Hypothesis f_inf_le : f_inf <= f (x T).

Local Notation mean F := (T%:R^-1 * (\sum_(t < T) F t)).

(* The descent inequality with 1/eta in place of L, at the steps of the run. *)
Theorem T17_local :
  (forall t, (t < T)%N -> descent_at eta^-1 (x t) (x t.+1)) ->
  mean (fun t => |[g (x t)]|) <=
    2%:R * (f (x 0%N) - f_inf) / (eta * T%:R) + mean (fun t => |[e t]|).
Proof.
move=> fx; have := le_trans f_inf_le (T17_telescoped run (fun _ _ => eta_gt0) fx).
rewrite -!mulr_sumr; set G := \sum_(t < T) _; set E := \sum_(t < T) _ => le_f.
have c_gt0 : 0 < 2%:R / (eta * T%:R) :> R by rewrite divr_gt0 ?mulr_gt0 ?ltr0n.
apply: le_same_slack (ler_wpmul2l (ltW c_gt0) le_f) _.
by field; rewrite !gt_eqF ?ltr0n.
Qed.

Theorem T17_relative_local delta :
  (forall t, (t < T)%N -> descent_at eta^-1 (x t) (x t.+1)) ->
  0 <= delta -> delta < 1 ->
  (forall t, (t < T)%N -> |[e t]| <= delta ^+ 2 * |[g (x t)]|) ->
  mean (fun t => |[g (x t)]|) <=
    2%:R * (f (x 0%N) - f_inf) / (eta * T%:R * (1 - delta ^+ 2)).
Proof.
move=> fx delta_ge0 delta_lt1 rel; have := T17_local fx.
have T_pos : 0 < T%:R :> R by rewrite ltr0n.
have d_gt0 : 0 < 1 - delta ^+ 2 by rewrite subr_gt0 expr_lt1.
have: mean (fun t => |[e t]|) <= mean (fun t => delta ^+ 2 * |[g (x t)]|).
  by rewrite ler_pmul2l ?invr_gt0 //; apply: ler_sum => t _; exact: rel.
rewrite -mulr_sumr; set G := \sum_(t < T) _; set E := \sum_(t < T) _ => le_E le_G.
rewrite -(ler_pmul2l d_gt0); apply: le_same_slack (ler_add le_G le_E) _.
by field; rewrite !gt_eqF.
Qed.

Variable L : R.
Hypothesis eta_le : eta <= L^-1.
Hypothesis smooth : forall t, (t < T)%N -> descent_at L (x t) (x t.+1).

Let smooth_local t : (t < T)%N -> descent_at eta^-1 (x t) (x t.+1).
Proof. by move=> /smooth; exact: descent_at_inverse_step. Qed.

Theorem T17_rate :
  mean (fun t => |[g (x t)]|) <=
    2%:R * (f (x 0%N) - f_inf) / (eta * T%:R) + mean (fun t => |[e t]|).
Proof. exact: T17_local. Qed.

Theorem T17_relative delta :
  0 <= delta -> delta < 1 ->
  (forall t, (t < T)%N -> |[e t]| <= delta ^+ 2 * |[g (x t)]|) ->
  mean (fun t => |[g (x t)]|) <=
    2%:R * (f (x 0%N) - f_inf) / (eta * T%:R * (1 - delta ^+ 2)).
Proof. exact: T17_relative_local. Qed.

(* With b_t and n_t in place of what is not known at runtime. *)
Theorem T17_certified_relative delta (b n : nat -> R) :
  0 <= delta -> delta < 1 ->
  (forall t, (t < T)%N -> [/\ 0 <= b t, 0 <= n t, |[e t]| <= b t ^+ 2
                            & |[g (x t) + e t]| = n t ^+ 2]) ->
  (forall t, (t < T)%N -> b t * (1 + delta) <= delta * n t) ->
  mean (fun t => |[g (x t)]|) <=
    2%:R * (f (x 0%N) - f_inf) / (eta * T%:R * (1 - delta ^+ 2)).
Proof.
move=> delta_ge0 delta_lt1 cert cond; apply: T17_relative => // t tT.
by have [b_ge0 n_ge0 eb gn] := cert t tT; exact: T17_condition (cond t tT).
Qed.

End ConstantStep.

(* ---- T18: a linear rate ------------------------------------------------ *)

(* The inequality of Polyak and Lojasiewicz at x. *)
Definition pl_at mu f_inf x := 2%:R * mu * (f x - f_inf) <= |[g x]|.

(* Smoothness bounds the gradient by the value: |g|^2 <= 2 L (f - f_inf). *)
Lemma sqnorm_gradient_le L f_inf x :
  0 < L -> descent_at L x (x - L^-1 *: g x) -> f_inf <= f (x - L^-1 *: g x) ->
  |[g x]| <= 2%:R * L * (f x - f_inf).
Proof.
move=> L_gt0 fx f_inf_le; have inv_gt0 : 0 < L^-1 by rewrite invr_gt0.
have e0 : step L^-1 x 0 = x - L^-1 *: g x by rewrite /step addr0.
have := @T16_descent L L^-1 x 0 inv_gt0 (lexx _); rewrite e0 => /(_ fx).
rewrite sqnorm0 mulr0 addr0 => /(le_trans f_inf_le) le_f.
have c_gt0 : 0 < 2%:R * L by rewrite mulr_gt0 ?ltr0n.
apply: le_same_slack (ler_wpmul2l (ltW c_gt0) le_f) _.
by field; rewrite gt_eqF.
Qed.

(* mu <= L follows as soon as some point is not optimal. *)
Theorem T18_mu_at_most_L L mu f_inf x :
  0 < L -> descent_at L x (x - L^-1 *: g x) -> f_inf <= f (x - L^-1 *: g x) ->
  pl_at mu f_inf x -> f_inf < f x -> mu <= L.
Proof.
move=> L_gt0 fx f_inf_le pl f_gt.
have := le_trans pl (sqnorm_gradient_le L_gt0 fx f_inf_le).
by rewrite ler_pmul2r ?subr_gt0 // ler_pmul2l ?ltr0n.
Qed.

(* mu <= L is not assumed: at a point that is not optimal the factor is not negative because
   f_inf <= f (x t.+1), and an optimal point is not left. *)
Theorem T18_linear_rate_local T eta mu delta f_inf (x e : nat -> V) :
  is_run T (fun=> eta) x e -> 0 < eta ->
  (forall t, (t < T)%N -> descent_at eta^-1 (x t) (x t.+1)) ->
  (forall t, (t <= T)%N -> f_inf <= f (x t)) ->
  (forall t, (t < T)%N -> pl_at mu f_inf (x t)) ->
  0 <= delta -> delta < 1 ->
  (forall t, (t < T)%N -> |[e t]| <= delta ^+ 2 * |[g (x t)]|) ->
  f (x T) - f_inf <= (1 - eta * mu * (1 - delta ^+ 2)) ^+ T * (f (x 0%N) - f_inf).
Proof.
move=> run eta_gt0 fx f_ge pl delta_ge0 delta_lt1 rel.
set c := 1 - _.
have d_gt0 : 0 < 1 - delta ^+ 2 by rewrite subr_gt0 expr_lt1.
have contract t : (t < T)%N -> f (x t.+1) - f_inf <= c * (f (x t) - f_inf).
  move=> tT; have := fx t tT; rewrite run // => /(T16_local eta_gt0); rewrite -run // => le_f.
  have eta2_gt0 : 0 < eta / 2%:R by rewrite divr_gt0 ?ltr0n.
  have le_e := ler_wpmul2l (ltW eta2_gt0) (rel t tT).
  have le_pl := ler_wpmul2l (ltW (mulr_gt0 eta2_gt0 d_gt0)) (pl t tT).
  by apply: le_same_slack (ler_add le_f (ler_add le_e le_pl)) _; rewrite /c; field.
have gap_ge0 t : (t <= T)%N -> 0 <= f (x t) - f_inf by move=> /f_ge; rewrite subr_ge0.
have [start|start] := eqVneq (f (x 0%N) - f_inf) 0.
  rewrite start mulr0; suff : forall t, (t <= T)%N -> f (x t) - f_inf <= 0 by apply.
  elim=> [|t IH] tT; first by rewrite start.
  have gap0 : f (x t) - f_inf = 0 by apply: le_anti; rewrite IH ?gap_ge0 ?(ltnW tT).
  by apply: le_trans (contract t tT) _; rewrite gap0 mulr0.
have start_gt0 : 0 < f (x 0%N) - f_inf by rewrite lt_neqAle eq_sym start gap_ge0.
suff : forall t, (t <= T)%N -> f (x t) - f_inf <= c ^+ t * (f (x 0%N) - f_inf) by apply.
elim=> [|t IH] tT; first by rewrite expr0 mul1r.
have c_ge0 : 0 <= c.
  have T_gt0 : (0 < T)%N := leq_ltn_trans (leq0n t) tT.
  by rewrite -(pmulr_lge0 _ start_gt0) (le_trans (gap_ge0 1%N T_gt0)) ?contract.
apply: le_trans (contract t tT) _.
by rewrite exprS -mulrA ler_wpmul2l // IH // ltnW.
Qed.

Theorem T18_linear_rate T L eta mu delta f_inf (x e : nat -> V) :
  is_run T (fun=> eta) x e -> 0 < eta -> eta <= L^-1 ->
  (forall t, (t < T)%N -> descent_at L (x t) (x t.+1)) ->
  (forall t, (t <= T)%N -> f_inf <= f (x t)) ->
  (forall t, (t < T)%N -> pl_at mu f_inf (x t)) ->
  0 <= delta -> delta < 1 ->
  (forall t, (t < T)%N -> |[e t]| <= delta ^+ 2 * |[g (x t)]|) ->
  f (x T) - f_inf <= (1 - eta * mu * (1 - delta ^+ 2)) ^+ T * (f (x 0%N) - f_inf).
Proof.
move=> run eta_gt0 eta_le fx; apply: T18_linear_rate_local => // t tT.
exact: descent_at_inverse_step (fx t tT).
Qed.

End Convergence.
