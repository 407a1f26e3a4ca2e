(* The descent inequality from a Lipschitz gradient.

   Where f is differentiable along lines with gradient g, and |g x - g y|^2 <= L^2 |x - y|^2, T16 to T19
   may use `descent_at f g L x y` at every pair (`descent_lemma`).  Along the segment from x to y the
   function f less its quadratic upper bound falls, by the mean value theorem.  The logistic loss has the
   inequality with L = c / 4, where |X v|^2 <= c |v|^2 for the data X: the derivative of the logistic
   function is at most 1/4.

   This file alone rests on the three classical axioms of mathcomp-analysis (functional and propositional
   extensionality, constructive indefinite description), because derivatives do.  Least squares and
   quadratics have the descent inequality by algebra, without axioms: instances.v.

   No numerical check certifies a Lipschitz gradient of a network; a run whose step is checked against the
   loss needs none of this (`T16_local`). *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From mathcomp Require Import boolp classical_sets functions reals topology normedtype derive.
From mathcomp Require Import sequences realfun exp.
From refgrad Require Import inner_product convergence.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory numFieldNormedType.Exports.
Local Open Scope ring_scope.

Section DescentLemma.

Variables (R : realType) (V : lmodType R) (ip : innerProduct V).
Variables (f : V -> R) (g : V -> V).

Local Notation "<[ x , y ]>" := (dot ip x y) (at level 0, x at level 99, y at level 99).
Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

(* g is the gradient of f: along every line the derivative of f is the inner product with g. *)
Definition is_gradient := forall (x d : V) (t : R),
  is_derive t 1 (fun s : R => f (x + s *: d) : R) <[g (x + t *: d), d]>.

Definition lipschitz_gradient (L : R) := forall x y, |[g x - g y]| <= L ^+ 2 * |[x - y]|.

(* The slope along d grows by no more than L t |d|^2. *)
Lemma slope_le (L : R) x d t : 0 <= L -> lipschitz_gradient L -> 0 <= t ->
  <[g (x + t *: d), d]> - <[g x, d]> <= L * t * |[d]|.
Proof.
move=> L_ge0 lip t_ge0; rewrite -dotBl; apply: le_trans (ler_norm _) _.
rewrite -(@ler_pexpn2r _ 2) ?nnegrE ?mulr_ge0 ?sqnorm_ge0 // real_normK ?num_real //.
apply: le_trans (cauchy_schwarz ip _ _) _.
have := ler_wpmul2r (sqnorm_ge0 ip d) (lip (x + t *: d) x).
by rewrite addrAC subrr add0r sqnormZ => /le_trans; apply; rewrite le_eqVlt; apply/orP; left;
  apply/eqP; ring.
Qed.

Theorem descent_lemma (L : R) x y :
  is_gradient -> 0 <= L -> lipschitz_gradient L -> descent_at ip f g L x y.
Proof.
move=> grad L_ge0 lip; pose d := y - x.
pose phi (s : R) : R := f (x + s *: d).
pose psi : R -> R := phi - (<[g x, d]> *: (id : R -> R)) - ((L / 2%:R * |[d]|) *: ((id : R -> R) ^+ 2)).
pose dpsi (t : R) : R := <[g (x + t *: d), d]> - <[g x, d]> - L * t * |[d]|.
have psi_derive (t : R) : is_derive t 1 psi (dpsi t).
  have phi_derive : is_derive t 1 phi <[g (x + t *: d), d]> := grad x d t.
  by apply: is_derive_eq; rewrite /dpsi /GRing.scale /=; field.
have psi_continuous : {within `[0, 1]%classic, continuous psi}.
  apply: continuous_subspaceT => t; apply/differentiable_continuous/derivable1_diffP.
  exact: ex_derive.
have [c] := MVT ltr01 (fun t _ => psi_derive t) psi_continuous.
rewrite in_itv /= => /andP [c_gt0 _]; rewrite subr0 mulr1 => psi_c.
have := slope_le x d L_ge0 lip (ltW c_gt0); rewrite -subr_le0 -/(dpsi c) -psi_c /psi !fctE /phi.
rewrite scale1r scale0r addr0 /d (addrC x) subrK -/d /descent_at -/d => /le_same_slack; apply.
by rewrite /GRing.scale /=; field.
Qed.

(* T16 for a function whose gradient is Lipschitz. *)
Theorem T16_lipschitz_gradient (L eta : R) x e :
  is_gradient -> lipschitz_gradient L -> 0 < eta -> eta <= L^-1 ->
  f (step g eta x e) <= f x - eta / 2%:R * |[g x]| + eta / 2%:R * |[e]|.
Proof.
move=> grad lip eta_gt0 eta_le; apply: (T16_descent eta_gt0 eta_le).
by apply: descent_lemma => //; rewrite -invr_ge0 (le_trans (ltW eta_gt0)).
Qed.

End DescentLemma.

(* ---- The logistic loss -------------------------------------------------- *)

Section Logistic.

Variable R : realType.
Implicit Types z : R.

Definition softplus z : R := ln (1 + expR z).
Definition logistic z : R := 1 - (1 + expR z)^-1.

Definition real_line : innerProduct [lmodType R of R^o].
Proof.
exists (fun x y : R => x * y) => [x y z|a x y|x y|x|x].
- exact: mulrDl.
- by rewrite /GRing.scale /= mulrA.
- exact: mulrC.
- by rewrite -expr2 sqr_ge0.
- by move=> /eqP; rewrite -expr2 sqrf_eq0 => /eqP.
Defined.

Lemma one_plus_exp_gt0 z : 0 < 1 + expR z.
Proof. by rewrite addr_gt0 ?ltr01 ?expR_gt0. Qed.

Lemma one_plus_exp_derive z : is_derive z 1 (cst 1 + expR : R -> R) (expR z).
Proof. by apply: is_derive_eq; rewrite add0r. Qed.

Lemma softplus_derive z : is_derive z 1 softplus (logistic z).
Proof.
have ln_derive : is_derive ((cst 1 + expR : R -> R) z) 1 (@ln R) (1 + expR z)^-1.
  exact: (is_derive1_ln (one_plus_exp_gt0 z)).
have comp := is_derive1_comp ln_derive (one_plus_exp_derive z).
have -> : logistic z = (1 + expR z)^-1 * expR z.
  by rewrite /logistic; field; rewrite gt_eqF ?one_plus_exp_gt0.
exact: comp.
Qed.

Lemma logistic_derive z : is_derive z 1 logistic (expR z / (1 + expR z) ^+ 2).
Proof.
have neq0 : (cst 1 + expR : R -> R) z != 0 by rewrite gt_eqF // one_plus_exp_gt0.
have inv_derive := is_deriveV neq0 (one_plus_exp_derive z).
have := is_deriveB (is_derive_cst (1 : R) z 1) inv_derive.
rewrite sub0r /GRing.scale /= mulNr opprK mulrC; exact.
Qed.

Lemma logistic_slope z : 0 <= expR z / (1 + expR z) ^+ 2 <= 4%:R^-1.
Proof.
have sq_gt0 : 0 < (1 + expR z) ^+ 2 by rewrite exprn_gt0 ?one_plus_exp_gt0.
apply/andP; split; first by rewrite divr_ge0 ?(ltW (expR_gt0 z)) ?(ltW sq_gt0).
rewrite ler_pdivr_mulr // -(@ler_pmul2l _ 4%:R) ?ltr0n //.
apply: le_same_slack (sqr_ge0 (1 - expR z)) _; by field.
Qed.

Lemma logistic_lipschitz : lipschitz_gradient real_line (logistic : R^o -> R^o) 4%:R^-1.
Proof.
move=> x y; rewrite /sqnorm /= -!expr2.
wlog xy : x y / x <= y.
  by move=> H; case: (leP x y) => [/H //|/ltW /H]; rewrite -[_ - logistic x]opprB -[x - y]opprB !sqrrN.
have continuous_logistic : {within `[x, y]%classic, continuous logistic}.
  apply: continuous_subspaceT => t; apply/differentiable_continuous/derivable1_diffP.
  by have := logistic_derive t => /(@ex_derive _ _ _ _ _ _ _).
have [c _ slope] := MVT_segment xy (fun t _ => logistic_derive t) continuous_logistic.
rewrite -[logistic x - _]opprB -[x - y]opprB !sqrrN slope exprMn ler_wpmul2r ?sqr_ge0 //.
have /andP [slope_ge0 slope_le] := logistic_slope c.
by rewrite ler_pexpn2r ?nnegrE ?invr_ge0 ?ler0n.
Qed.

(* softplus z' <= softplus z + logistic z (z' - z) + (z' - z)^2 / 8. *)
Lemma softplus_descent z z' :
  descent_at real_line (softplus : R^o -> R) (logistic : R^o -> R^o) 4%:R^-1 z z'.
Proof.
apply: descent_lemma; [move=> x d t|by rewrite invr_ge0 ler0n|exact: logistic_lipschitz].
pose line (s : R) : R := x + s * d.
have line_derive : is_derive t 1 line d.
  have := is_deriveD (is_derive_cst (x : R) t 1) (is_deriveZ d (is_derive_id (t : R) 1)).
  rewrite add0r /GRing.scale /= mulr1.
  by rewrite (_ : cst x + _ = line) //; apply/funext => s; rewrite !fctE /line /= mulrC.
exact: (is_derive1_comp (softplus_derive (line t)) line_derive).
Qed.

Variables (V : lmodType R) (ip : innerProduct V) (m : nat).
Variables (X : 'I_m -> V) (label : 'I_m -> R).
Implicit Types w v : V.

(* The sum over samples X i of softplus z_i - label_i z_i, z_i = <X i, w>. *)
Definition logistic_loss w : R := \sum_i (softplus (dot ip (X i) w) - label i * dot ip (X i) w).
Definition logistic_loss_gradient w : V := \sum_i (logistic (dot ip (X i) w) - label i) *: X i.

Theorem logistic_loss_smooth c : (forall v, \sum_i dot ip (X i) v ^+ 2 <= c * sqnorm ip v) ->
  forall w w', descent_at ip logistic_loss logistic_loss_gradient (c / 4%:R) w w'.
Proof.
move=> X_le w w'; rewrite /descent_at.
have term i : softplus (dot ip (X i) w') - label i * dot ip (X i) w' <=
    softplus (dot ip (X i) w) - label i * dot ip (X i) w
    + dot ip ((logistic (dot ip (X i) w) - label i) *: X i) (w' - w)
    + 8%:R^-1 * dot ip (X i) (w' - w) ^+ 2.
  apply: le_same_slack (softplus_descent (dot ip (X i) w) (dot ip (X i) w')) _.
  by rewrite /sqnorm /= dotZl !dotBr; field.
rewrite /logistic_loss /logistic_loss_gradient dot_suml.
have -> : c / 4%:R / 2%:R * sqnorm ip (w' - w) = 8%:R^-1 * (c * sqnorm ip (w' - w)) by field.
apply: le_trans (_ : _ <= _) (ler_add (lexx _) (ler_wpmul2l _ (X_le (w' - w)))).
  by rewrite mulr_sumr -!big_split; apply: ler_sum => i _; exact: term.
by rewrite invr_ge0 ler0n.
Qed.

End Logistic.
