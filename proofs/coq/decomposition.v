(* Truncated decompositions of a tensor of any order: T1 to T8.

   First the arguments, for any finite sequence of orthogonal projections; then the theorems
   for the truncated HOSVD, for the truncated SVD of one unfolding, and for sequential
   truncation.  The field is any ordered field, norms are squared.

   Hypotheses that stand for numerical facts, and the check of the oracle that certifies them:
   - [orthonormal (U j)]: U_j^T U_j = 1; orthonormal_verdict.
   - [keeps_leading (U j) (unfold j A) (s j)]: |U_j^T A_(j)|^2 is at least the sum of the
     K_j largest squared singular values of A_(j); subspace_verdict, its part on the energy.
   - [squared_singular_values (unfold j A) (W j) (s j)]: the singular value decomposition
     of the reference, with which these checks compare.
   - eps |A|^2 <= |U_j^T A_(j)|^2: the rank explains the variance (D1); ranks, with
     subspace_verdict. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import inner_product tensor eckart_young.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* ---- Sequences of projections ------------------------------------------ *)

Section Projections.

Variables (R : realFieldType) (V : lmodType R) (ip : innerProduct V) (I : eqType).
Variables (P : I -> orthoProjection ip).
Implicit Types (x y : V) (i : I) (s : seq I).

Local Notation "|[ x ]|" := (sqnorm ip x) (at level 0, x at level 99).

(* The projections of s, one after another, the last of s first. *)
Definition project_all s x : V := foldr (fun i => P i) x s.

(* The upper bound needs no commutation: |x - P_i y|^2 = |x - P_i x|^2 + |P_i (x - y)|^2. *)
Lemma project_all_upper s x : |[x - project_all s x]| <= \sum_(i <- s) |[x - P i x]|.
Proof.
elim: s => [|i s IHs]; first by rewrite big_nil subrr sqnorm0.
rewrite big_cons /=; set y := project_all s x in IHs *.
have -> : x - P i y = x - P i x + P i (x - y) by rewrite projB addrA subrK.
by rewrite proj_split ler_add2l (le_trans (proj_le _ _)).
Qed.

Hypothesis commute : forall i j x, P i (P j x) = P j (P i x).

Lemma project_allC i s x : P i (project_all s x) = project_all s (P i x).
Proof. by elim: s => //= j s IHs; rewrite commute IHs. Qed.

(* The result is in the range of every projection of s. *)
Lemma project_all_fixed i s x : i \in s -> P i (project_all s x) = project_all s x.
Proof.
elim: s => //= j s IHs; rewrite inE; have [->|_ /= /IHs fixed] := eqVneq i j.
  by rewrite projK.
by rewrite commute fixed.
Qed.

Lemma project_all_id s y : (forall i, i \in s -> P i y = y) -> project_all s y = y.
Proof.
elim: s => //= i s IHs fixed; rewrite IHs ?fixed ?mem_head // => j js.
by rewrite fixed // inE js orbT.
Qed.

(* A product of commuting projections is an orthogonal projection. *)
Definition product_projection s : orthoProjection ip.
Proof.
exists (project_all s) => [x y|a x|x|x y].
- by elim: s => //= i s ->; rewrite projD.
- by elim: s => //= i s ->; rewrite projZ.
- by apply: project_all_id => i; exact: project_all_fixed.
elim: s x y => //= i s IHs x y.
by rewrite proj_adjoint IHs project_allC.
Defined.

Lemma project_all_lower i s x : i \in s -> |[x - P i x]| <= |[x - project_all s x]|.
Proof. by move=> is_; apply: proj_nearest; rewrite project_all_fixed. Qed.

(* The projections of s, one after another, the first of s first. *)
Definition project_in_turn s x : V := foldl (fun y i => P i y) x s.

Lemma project_in_turnE s x : project_in_turn s x = project_all s x.
Proof. by elim: s x => //= i s IHs x; rewrite IHs project_allC. Qed.

Lemma project_in_turn_rcons s i x : project_in_turn (rcons s i) x = P i (project_in_turn s x).
Proof. by rewrite /project_in_turn -cats1 foldl_cat. Qed.

(* Step after step the discarded energies add up to the error, exactly. *)
Lemma project_in_turn_error (i0 : I) s x :
  |[x - project_in_turn s x]| =
  \sum_(t < size s) |[project_in_turn (take t s) x - P (nth i0 s t) (project_in_turn (take t s) x)]|.
Proof.
elim/last_ind: s => [|s i IHs]; first by rewrite big_ord0 subrr sqnorm0.
have whole : take (size s) (rcons s i) = s by rewrite -cats1 take_size_cat.
rewrite size_rcons big_ord_recr /= nth_rcons ltnn eqxx whole.
rewrite (eq_bigr (fun t : 'I__ =>
  |[project_in_turn (take t s) x - P (nth i0 s t) (project_in_turn (take t s) x)]|)); last first.
  move=> t _; rewrite nth_rcons ltn_ord -cats1 takel_cat //; exact: ltnW (ltn_ord t).
rewrite -IHs project_in_turn_rcons.
set y := project_in_turn s x.
have errory : |[x - y]| = |[x]| - |[y]|.
  by rewrite /y project_in_turnE (proj_error (product_projection s)).
have -> : |[x - P i y]| = |[x]| - |[P i y]|.
  by rewrite /y project_in_turnE (proj_error (product_projection (i :: s))).
rewrite errory proj_error; ring.
Qed.

End Projections.

(* Larger ranges, smaller error; the two families need not commute with each other. *)
Lemma project_all_nested (R : realFieldType) (V : lmodType R) (ip : innerProduct V) (I : eqType)
    (P Q : I -> orthoProjection ip) s x :
  (forall i j y, P i (P j y) = P j (P i y)) -> (forall i j y, Q i (Q j y) = Q j (Q i y)) ->
  (forall i y, Q i (P i y) = P i y) ->
  sqnorm ip (x - project_all Q s x) <= sqnorm ip (x - project_all P s x).
Proof.
move=> PC QC QP; apply: (proj_nearest (P := product_projection QC s)) => /=.
apply: project_all_id => i is_.
by rewrite -(project_all_fixed PC x is_) QP.
Qed.

(* ---- The truncated HOSVD ------------------------------------------------ *)

Section Truncation.

Variables (R : realFieldType) (d : nat) (n : 'I_d -> nat).
Implicit Types (A B X Y : tensor R n).

Local Notation "|[ X ]|" := (sqnorm (tensor_ip R _) X) (at level 0, X at level 99).
Local Notation "<[ X , Y ]>" := (dot (tensor_ip R _) X Y) (at level 0, X at level 99, Y at level 99).

Lemma sqnorm_unfold j X : |[X]| = energy (unfold j X).
Proof. by rewrite energyE /sqnorm (dot_unfold j). Qed.

Section Factors.

Variables (r : 'I_d -> nat) (U : forall j, 'M[R]_(n j, r j)).

(* P_j = U_j U_j^T. *)
Definition factor_projector j : 'M[R]_(n j) := U j *m (U j)^T.

(* X -> X x_j P_j. *)
Definition project_mode j X : tensor R n := mode_product j (factor_projector j) X.

(* S = A x_1 U_1^T ... x_d U_d^T. *)
Definition core A : tensor R r := tucker (fun j => (U j)^T) A.

(* A~ = S x_1 U_1 ... x_d U_d. *)
Definition truncated A : tensor R n := tucker U (core A).

(* tau_j = |A - A x_j P_j|^2, the energy that mode j discards. *)
Definition discarded j A : R := |[A - project_mode j A]|.

Hypothesis orthoU : forall j, orthonormal (U j).

Definition factor_projection j : orthoProjection (tensor_ip R n) :=
  mode_projection (orthonormal_projector (orthoU j)).

Lemma factor_projectionC i j X :
  factor_projection i (factor_projection j X) = factor_projection j (factor_projection i X).
Proof.
by have [->//|ij] := eqVneq i j; exact: mode_productC.
Qed.

(* A~ is A projected along the modes one after another, in any order. *)
Lemma truncatedE (s : seq 'I_d) A :
  perm_eq s (enum 'I_d) -> truncated A = project_all factor_projection s A.
Proof.
move=> s_all; have us : uniq s by rewrite (perm_uniq s_all) enum_uniq.
transitivity (mode_products s factor_projector A) => [|//].
rewrite mode_products_tucker // /truncated /core tucker_comp; apply: eq_tucker => j.
by rewrite /on_modes (perm_mem s_all) mem_enum.
Qed.

(* T1: X -> X x_j P_j is an orthogonal projection of the tensor space. *)
Theorem T1_projection j X Y a :
  [/\ project_mode j (a *: X + Y) = a *: project_mode j X + project_mode j Y,
      project_mode j (project_mode j X) = project_mode j X
    & <[project_mode j X, Y]> = <[X, project_mode j Y]>].
Proof.
split; last exact: (proj_adjoint (factor_projection j)).
  by rewrite /project_mode mode_productD mode_productZ.
exact: (projK (factor_projection j)).
Qed.

(* T1: projections along two modes commute. *)
Theorem T1_commute i j X : project_mode i (project_mode j X) = project_mode j (project_mode i X).
Proof. exact: factor_projectionC. Qed.

(* T1, consequence: A -> A~ is an orthogonal projection too. *)
Theorem T1_truncation A B :
  truncated (truncated A) = truncated A /\ <[truncated A, B]> = <[A, truncated B]>.
Proof.
rewrite !(truncatedE _ (perm_refl _)).
by split; [exact: (projK (product_projection factor_projectionC _))
          |exact: (proj_adjoint (product_projection factor_projectionC _))].
Qed.

(* T2: |A|^2 = |A~|^2 + |A - A~|^2. *)
Theorem T2_pythagoras A : |[A]| = |[truncated A]| + |[A - truncated A]|.
Proof.
rewrite (truncatedE _ (perm_refl _)).
exact: (proj_pythagoras (product_projection factor_projectionC _)).
Qed.

(* T2: |A~| = |S|. *)
Theorem T2_core_norm A : |[truncated A]| = |[core A]|.
Proof. exact: tucker_isometry. Qed.

(* T2: the error from the core alone. *)
Theorem T2_error_from_core A : |[A - truncated A]| = |[A]| - |[core A]|.
Proof. by rewrite (T2_pythagoras A) T2_core_norm addrAC subrr add0r. Qed.

(* What mode j discards, from the energy of U_j^T A_(j). *)
Lemma discardedE j A : discarded j A = |[A]| - energy ((U j)^T *m unfold j A).
Proof.
rewrite /discarded (proj_error (factor_projection j)) (sqnorm_unfold j (factor_projection j A)).
by rewrite unfold_mode_product -mulmxA energy_orthonormal.
Qed.

(* T3: max_j tau_j <= |A - A~|^2. *)
Theorem T3_lower j A : discarded j A <= |[A - truncated A]|.
Proof.
rewrite (truncatedE _ (perm_refl _)).
by apply: (project_all_lower factor_projectionC); rewrite mem_enum.
Qed.

(* T3: |A - A~|^2 <= sum_j tau_j. *)
Theorem T3_upper A : |[A - truncated A]| <= \sum_j discarded j A.
Proof.
rewrite (truncatedE _ (perm_refl _)) (le_trans (project_all_upper _ _ _)) //.
by rewrite big_enum.
Qed.

(* T3: |A - A~|^2 <= d (1 - eps) |A|^2 at explained variance eps. *)
Theorem T3_a_priori eps A :
  (forall j, eps * |[A]| <= energy ((U j)^T *m unfold j A)) ->
  |[A - truncated A]| <= d%:R * (1 - eps) * |[A]|.
Proof.
move=> explained; apply: (le_trans (T3_upper A)).
have -> : d%:R * (1 - eps) * |[A]| = \sum_(j < d) (1 - eps) * |[A]|.
  by rewrite sumr_const card_ord -mulrA mulr_natl.
apply: ler_sum => j _; rewrite discardedE.
apply: le_same_slack (explained j) _; ring.
Qed.

(* T4, for whatever factors are optimal, each for its own unfolding. *)
Theorem T4_optimal_factors A B :
  (forall j (Q : 'M[R]_(n j)), projector Q -> (\rank Q <= r j)%N ->
     discarded j A <= |[A - mode_product j Q A]|) ->
  (forall j, (\rank (unfold j B) <= r j)%N) ->
  |[A - truncated A]| <= d%:R * |[A - B]|.
Proof.
move=> optimal rankB; apply: (le_trans (T3_upper A)).
have -> : d%:R * |[A - B]| = \sum_(j < d) |[A - B]| by rewrite sumr_const card_ord mulr_natl.
apply: ler_sum => j _; have [Q [projQ QB rankQ]] := column_space_projector (unfold j B).
apply: (le_trans (optimal j Q projQ (leq_trans rankQ (rankB j)))).
apply: (proj_nearest (P := mode_projection projQ)) => /=.
by apply: (can_inj (@unfoldK _ _ _ j)); rewrite unfold_mode_product.
Qed.

(* T4: at most sqrt(d) times the error of any tensor of the same multilinear rank. *)
Theorem T4_quasi_optimal (W : forall j, 'M[R]_(n j)) (s : forall j, 'I_(n j) -> R) A B :
  (forall j, squared_singular_values (unfold j A) (W j) (s j)) ->
  (forall j, keeps_leading (U j) (unfold j A) (s j)) ->
  (forall j, (\rank (unfold j B) <= r j)%N) ->
  |[A - truncated A]| <= d%:R * |[A - B]|.
Proof.
move=> ssv lead rankB; apply: T4_optimal_factors rankB => j Q projQ rankQ.
rewrite /discarded !(sqnorm_unfold j) !unfoldB !unfold_mode_product.
apply: (leading_nearest (ssv j)) => //; exact: leq_trans (mxrankM_maxl _ _) rankQ.
Qed.

(* T6: ranges that contain the unfoldings restore the tensor. *)
Theorem T6_ranges A : (forall j, factor_projector j *m unfold j A = unfold j A) -> truncated A = A.
Proof.
move=> fixed; rewrite (truncatedE _ (perm_refl _)); apply: project_all_id => j _.
apply: (can_inj (@unfoldK _ _ _ j)); rewrite unfold_mode_product; exact: fixed.
Qed.

(* T6: so does explained variance eps = 1. *)
Theorem T6_explained_variance A :
  (forall j, |[A]| <= energy ((U j)^T *m unfold j A)) -> truncated A = A.
Proof.
move=> explained; apply/esym/eqP; rewrite -subr_eq0 -(sqnorm_eq0 (tensor_ip R n)) eq_le sqnorm_ge0 andbT.
have := @T3_a_priori 1 A; rewrite subrr mulr0 mul0r; apply => j; by rewrite mul1r.
Qed.

(* T6: so do ranks that are at least those of the unfoldings. *)
Theorem T6_ranks (W : forall j, 'M[R]_(n j)) (s : forall j, 'I_(n j) -> R) A :
  (forall j, squared_singular_values (unfold j A) (W j) (s j)) ->
  (forall j, keeps_leading (U j) (unfold j A) (s j)) ->
  (forall j, (\rank (unfold j A) <= r j)%N) -> truncated A = A.
Proof.
move=> ssv lead rankA; apply/esym/eqP; rewrite -subr_eq0 -(sqnorm_eq0 (tensor_ip R n)).
rewrite eq_le sqnorm_ge0 andbT; have := T4_quasi_optimal ssv lead rankA.
by rewrite subrr sqnorm0 mulr0.
Qed.

(* T7: one unfolding, |A - A~|^2 = tau_1 = |A|^2 - |U_1^T A_(1)|^2 <= (1 - eps) |A|^2. *)
Theorem T7_error j eps A :
  eps * |[A]| <= energy ((U j)^T *m unfold j A) ->
  |[A - project_mode j A]| = |[A]| - energy ((U j)^T *m unfold j A) /\
  |[A - project_mode j A]| <= (1 - eps) * |[A]|.
Proof.
move=> explained; rewrite -/(discarded j A) discardedE; split=> //.
apply: le_same_slack explained _; ring.
Qed.

(* T7: no tensor whose unfolding has rank at most K is nearer. *)
Theorem T7_nearest j (W : 'M[R]_(n j)) (s : 'I_(n j) -> R) A B :
  squared_singular_values (unfold j A) W s -> keeps_leading (U j) (unfold j A) s ->
  (\rank (unfold j B) <= r j)%N -> |[A - project_mode j A]| <= |[A - B]|.
Proof.
move=> ssv lead rankB; rewrite !(sqnorm_unfold j) !unfoldB unfold_mode_product.
exact: leading_nearest ssv (orthoU j) lead rankB.
Qed.

(* What is left after the modes of s, one after another, the first of s first. *)
Definition sequential (s : seq 'I_d) A : tensor R n := foldl (fun X j => project_mode j X) A s.

(* T8: the error is the sum of what the steps discard, exactly. *)
Theorem T8_exact (i0 : 'I_d) s A :
  |[A - sequential s A]| =
  \sum_(t < size s) discarded (nth i0 s t) (sequential (take t s) A).
Proof. exact: (project_in_turn_error factor_projectionC i0 s A). Qed.

(* T8: after all modes, in any order, what is left is A~ with the factors of the steps. *)
Theorem T8_truncated s A : perm_eq s (enum 'I_d) -> sequential s A = truncated A.
Proof.
by move=> s_all; rewrite (truncatedE _ s_all) -(project_in_turnE factor_projectionC).
Qed.

End Factors.

(* T5: nested ranges, falling error. *)
Theorem T5_nested (r r' : 'I_d -> nat) (U : forall j, 'M[R]_(n j, r j))
    (U' : forall j, 'M[R]_(n j, r' j)) A :
  (forall j, orthonormal (U j)) -> (forall j, orthonormal (U' j)) ->
  (forall j, factor_projector U' j *m factor_projector U j = factor_projector U j) ->
  |[A - truncated U' A]| <= |[A - truncated U A]|.
Proof.
move=> oU oU' nested.
rewrite (truncatedE oU _ (perm_refl _)) (truncatedE oU' _ (perm_refl _)).
apply: (project_all_nested _ _ (factor_projectionC oU) (factor_projectionC oU')) => j y.
by rewrite /= mode_product_comp nested.
Qed.

(* T8: at equal ranks a step of sequential truncation discards at most what the same mode
   discards in HOSVD.  V j is the factor of the step, U j any other of at most its rank. *)
Theorem T8_discarded_le (r r' : 'I_d -> nat) (V : forall j, 'M[R]_(n j, r j))
    (U : forall j, 'M[R]_(n j, r' j)) (s : seq 'I_d) (j : 'I_d) (W : 'M[R]_(n j)) sigma A :
  (forall i, orthonormal (V i)) -> orthonormal (U j) -> (r' j <= r j)%N -> j \notin s ->
  squared_singular_values (unfold j (sequential V s A)) W sigma ->
  keeps_leading (V j) (unfold j (sequential V s A)) sigma ->
  discarded V j (sequential V s A) <= discarded U j A.
Proof.
move=> oV oU rr js ssv lead.
apply: (@le_trans _ _ |[sequential V s A - project_mode U j (sequential V s A)]|).
  apply: (T7_nearest oV ssv lead); rewrite unfold_mode_product.
  apply: leq_trans (mxrankM_maxl _ _) _; apply: leq_trans (mxrankM_maxl _ _) _.
  exact: leq_trans (rank_leq_col _) rr.
have swap X : project_mode U j (sequential V s X) = sequential V s (project_mode U j X).
  elim: s js X {ssv lead} => //= i s IHs; rewrite inE negb_or => /andP[ji js] X.
  by rewrite IHs // /project_mode mode_productC.
have turn X : sequential V s X = product_projection (factor_projectionC oV) s X.
  exact: project_in_turnE (factor_projectionC oV) s X.
by rewrite swap !turn -projB; exact: proj_le.
Qed.

End Truncation.
