(* Abstract inner products and orthogonal projections, over any ordered field.

   Proved here: the expansion of |x + y|^2, the parallelogram law, Young's
   inequality, Cauchy-Schwarz in squared form, and Pythagoras for an orthogonal
   projection.  Norms are squared throughout, so no root is needed and every
   statement holds over an arbitrary ordered field.

   No hypothesis stands for a numerical fact in this file. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* ---- Inequalities of an ordered field ---------------------------------- *)

(* Moves an inequality to one with the same slack; the second premise is for ring. *)
Lemma le_same_slack (R : numDomainType) (a b c d : R) :
  a <= b -> d - c = b - a -> c <= d.
Proof. by move=> ab e; rewrite -subr_ge0 e subr_ge0. Qed.

(* ---- Inner products ---------------------------------------------------- *)

Record innerProduct (R : realFieldType) (V : lmodType R) := InnerProduct {
  dot : V -> V -> R;
  dotDl : forall x y z, dot (x + y) z = dot x z + dot y z;
  dotZl : forall a x y, dot (a *: x) y = a * dot x y;
  dotC : forall x y, dot x y = dot y x;
  dot_ge0 : forall x, 0 <= dot x x;
  dot_eq0 : forall x, dot x x = 0 -> x = 0
}.

(* The squared norm |x|^2. *)
Definition sqnorm (R : realFieldType) (V : lmodType R) (ip : innerProduct V) (x : V) : R :=
  dot ip x x.

Section InnerProductTheory.

Variables (R : realFieldType) (V : lmodType R) (ip : innerProduct V).
Implicit Types (x y z : V) (a : R).

Local Notation "<[ x , y ]>" := (dot ip x y) (at level 0, x at level 99, y at level 99).
Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

Lemma dotDr x y z : <[x, y + z]> = <[x, y]> + <[x, z]>.
Proof. by rewrite dotC dotDl !(dotC ip x). Qed.

Lemma dotZr a x y : <[x, a *: y]> = a * <[x, y]>.
Proof. by rewrite dotC dotZl (dotC ip x). Qed.

Lemma dot0l x : <[0, x]> = 0.
Proof. by rewrite -(scale0r x) dotZl mul0r. Qed.

Lemma dot0r x : <[x, 0]> = 0.
Proof. by rewrite dotC dot0l. Qed.

Lemma dotNl x y : <[- x, y]> = - <[x, y]>.
Proof. by rewrite -scaleN1r dotZl mulN1r. Qed.

Lemma dotNr x y : <[x, - y]> = - <[x, y]>.
Proof. by rewrite dotC dotNl dotC. Qed.

Lemma dotBl x y z : <[x - y, z]> = <[x, z]> - <[y, z]>.
Proof. by rewrite dotDl dotNl. Qed.

Lemma dotBr x y z : <[x, y - z]> = <[x, y]> - <[x, z]>.
Proof. by rewrite dotDr dotNr. Qed.

Lemma dot_suml (I : Type) (r : seq I) (P : pred I) (F : I -> V) y :
  <[\sum_(i <- r | P i) F i, y]> = \sum_(i <- r | P i) <[F i, y]>.
Proof.
exact: (big_morph (fun x => <[x, y]>) (fun x z => dotDl ip x z y) (dot0l y)).
Qed.

Lemma dot_sumr (I : Type) (r : seq I) (P : pred I) (F : I -> V) x :
  <[x, \sum_(i <- r | P i) F i]> = \sum_(i <- r | P i) <[x, F i]>.
Proof. by rewrite dotC dot_suml; apply: eq_bigr => i _; rewrite dotC. Qed.

Lemma sqnorm_ge0 x : 0 <= |[x]|.
Proof. exact: dot_ge0. Qed.

Lemma sqnorm0 : |[0 : V]| = 0.
Proof. exact: dot0l. Qed.

Lemma sqnorm_eq0 x : (|[x]| == 0) = (x == 0).
Proof. by apply/eqP/eqP => [/dot_eq0 //|->]; exact: sqnorm0. Qed.

Lemma sqnormN x : |[- x]| = |[x]|.
Proof. by rewrite /sqnorm dotNl dotNr opprK. Qed.

Lemma sqnormZ a x : |[a *: x]| = a ^+ 2 * |[x]|.
Proof. by rewrite /sqnorm dotZl dotZr mulrA expr2. Qed.

(* |x + y|^2 = |x|^2 + 2 <x, y> + |y|^2. *)
Lemma sqnormD x y : |[x + y]| = |[x]| + 2%:R * <[x, y]> + |[y]|.
Proof. rewrite /sqnorm dotDl !dotDr (dotC ip y x); ring. Qed.

(* |x - y|^2 = |x|^2 - 2 <x, y> + |y|^2. *)
Lemma sqnormB x y : |[x - y]| = |[x]| - 2%:R * <[x, y]> + |[y]|.
Proof. by rewrite sqnormD sqnormN dotNr mulrN. Qed.

Lemma sqnorm_subC x y : |[x - y]| = |[y - x]|.
Proof. by rewrite -opprB sqnormN. Qed.

(* Pythagoras: orthogonal terms add their squared norms. *)
Lemma sqnormD_ortho x y : <[x, y]> = 0 -> |[x + y]| = |[x]| + |[y]|.
Proof. by move=> xy0; rewrite sqnormD xy0 mulr0 addr0. Qed.

(* The parallelogram law. *)
Lemma parallelogram x y : |[x + y]| + |[x - y]| = 2%:R * (|[x]| + |[y]|).
Proof. rewrite sqnormD sqnormB; ring. Qed.

(* Polarization: the inner product from squared norms. *)
Lemma polarization x y : |[x + y]| - |[x - y]| = 4%:R * <[x, y]>.
Proof. rewrite sqnormD sqnormB; ring. Qed.

(* Young's inequality: 2 <x, y> <= |x|^2 + |y|^2. *)
Lemma young x y : 2%:R * <[x, y]> <= |[x]| + |[y]|.
Proof. by apply: le_same_slack (sqnorm_ge0 (x - y)) _; rewrite sqnormB; ring. Qed.

(* The other sign of Young's inequality: - 2 <x, y> <= |x|^2 + |y|^2. *)
Lemma young_opp x y : - (2%:R * <[x, y]>) <= |[x]| + |[y]|.
Proof. by apply: le_same_slack (sqnorm_ge0 (x + y)) _; rewrite sqnormD; ring. Qed.

(* |x + y|^2 <= 2 (|x|^2 + |y|^2). *)
Lemma sqnormD_le x y : |[x + y]| <= 2%:R * (|[x]| + |[y]|).
Proof. by rewrite -parallelogram ler_addl sqnorm_ge0. Qed.

(* Cauchy-Schwarz in squared form: <x, y>^2 <= |x|^2 |y|^2. *)
Lemma cauchy_schwarz x y : <[x, y]> ^+ 2 <= |[x]| * |[y]|.
Proof.
have [->|y_neq0] := eqVneq y 0.
  by rewrite dot0r expr0n /= sqnorm0 mulr0.
have y_gt0 : 0 < |[y]| by rewrite lt_neqAle sqnorm_ge0 andbT eq_sym sqnorm_eq0.
rewrite -(ler_pmul2l y_gt0).
apply: le_same_slack (sqnorm_ge0 (|[y]| *: x - <[x, y]> *: y)) _.
rewrite sqnormB !sqnormZ dotZl dotZr; ring.
Qed.

End InnerProductTheory.

(* ---- Orthogonal projections -------------------------------------------- *)

Record orthoProjection (R : realFieldType) (V : lmodType R) (ip : innerProduct V) :=
  OrthoProjection {
    proj :> V -> V;
    projD : forall x y, proj (x + y) = proj x + proj y;
    projZ : forall a x, proj (a *: x) = a *: proj x;
    projK : forall x, proj (proj x) = proj x;
    proj_adjoint : forall x y, dot ip (proj x) y = dot ip x (proj y)
  }.

Section ProjectionTheory.

Variables (R : realFieldType) (V : lmodType R) (ip : innerProduct V).
Implicit Types (P Q : orthoProjection ip) (x y z : V) (a : R).

Local Notation "<[ x , y ]>" := (dot ip x y) (at level 0, x at level 99, y at level 99).
Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

Lemma proj0 P : P 0 = 0.
Proof. by rewrite -[X in P X](scale0r (0 : V)) projZ scale0r. Qed.

Lemma projN P x : P (- x) = - P x.
Proof. by rewrite -scaleN1r projZ scaleN1r. Qed.

Lemma projB P x y : P (x - y) = P x - P y.
Proof. by rewrite projD projN. Qed.

Lemma proj_sub_self P x : P (x - P x) = 0.
Proof. by rewrite projB projK subrr. Qed.

(* The range of P is orthogonal to the range of I - P. *)
Lemma proj_ortho P x y : <[x - P x, P y]> = 0.
Proof. by rewrite -proj_adjoint proj_sub_self dot0l. Qed.

(* Pythagoras: |x|^2 = |P x|^2 + |x - P x|^2. *)
Lemma proj_pythagoras P x : |[x]| = |[P x]| + |[x - P x]|.
Proof.
rewrite -{1}(subrK (P x) x) sqnormD_ortho ?proj_ortho //.
by rewrite addrC.
Qed.

(* |x - P x + P y|^2 = |x - P x|^2 + |P y|^2. *)
Lemma proj_split P x y : |[x - P x + P y]| = |[x - P x]| + |[P y]|.
Proof. by rewrite sqnormD_ortho ?proj_ortho. Qed.

(* A projection does not lengthen: |P x|^2 <= |x|^2. *)
Lemma proj_le P x : |[P x]| <= |[x]|.
Proof. by rewrite (proj_pythagoras P x) ler_addl sqnorm_ge0. Qed.

(* Neither does its complement: |x - P x|^2 <= |x|^2. *)
Lemma proj_compl_le P x : |[x - P x]| <= |[x]|.
Proof. by rewrite (proj_pythagoras P x) ler_addr sqnorm_ge0. Qed.

(* What is lost, from the norms alone: |x - P x|^2 = |x|^2 - |P x|^2. *)
Lemma proj_error P x : |[x - P x]| = |[x]| - |[P x]|.
Proof. by rewrite [|[x]|](proj_pythagoras P) addrAC subrr add0r. Qed.

(* P x is the point of the range that is nearest to x. *)
Lemma proj_nearest P x y : P y = y -> |[x - P x]| <= |[x - y]|.
Proof.
move=> Py; have -> : x - y = x - P x + P (x - y).
  by rewrite projB Py addrA subrK.
by rewrite proj_split ler_addl sqnorm_ge0.
Qed.

(* The identity is an orthogonal projection. *)
Definition idProjection : orthoProjection ip.
Proof. by exists (fun x => x). Defined.

(* The complement I - P is an orthogonal projection. *)
Definition complProjection P : orthoProjection ip.
Proof.
exists (fun x => x - P x) => [x y|a x|x|x y].
- by rewrite projD opprD addrACA.
- by rewrite projZ scalerBr.
- by rewrite proj_sub_self subr0.
- by rewrite dotBl dotBr proj_adjoint.
Defined.

(* The product of two commuting orthogonal projections is one again. *)
Definition compProjection P Q (PQ : forall x, P (Q x) = Q (P x)) : orthoProjection ip.
Proof.
exists (fun x => P (Q x)) => [x y|a x|x|x y].
- by rewrite !projD.
- by rewrite !projZ.
- by rewrite -PQ !projK.
- by rewrite !proj_adjoint PQ.
Defined.

End ProjectionTheory.
