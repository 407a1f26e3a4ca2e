(* Decompositions whose ranks explain a share of the variance (D1), and sequential truncation (D4).

   Proved here: the a-priori bound and the fall of the error with eps for ranks chosen by D1
   (T3, T5, T6); that HOSVD and the truncated SVD of a matrix agree at an untied cut (T7); that
   what is certified on the core that a step of sequential truncation finds holds for the tensor
   (T8); and the bounds of sequential truncation that follow (T8).

   Hypotheses that stand for numerical facts, and the check of the oracle that certifies them:
   - [squared_singular_values (unfold j A) (W j) (s j)]: the singular value decomposition of
     the reference;
   - [orthonormal], [keeps_leading]: orthonormal_verdict, subspace_verdict;
   - the ranks are those of D1: ranks. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import inner_product tensor eckart_young decomposition.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* ---- HOSVD with ranks by explained variance (D3) ------------------------ *)

Section ExplainedVariance.

Variables (R : realFieldType) (d : nat) (n : 'I_d -> nat) (A : tensor R n).
Variables (W : forall j, 'M[R]_(n j)) (s : forall j, 'I_(n j) -> R).
Arguments s : clear implicits.

Local Notation "|[ X ]|" := (sqnorm (tensor_ip R _) X) (at level 0, X at level 99).

Hypothesis nonempty : forall j, (0 < n j)%N.
Hypothesis svd : forall j, squared_singular_values (unfold j A) (W j) (s j).

(* K_j of D1, and the K_j leading left singular vectors of A_(j). *)
Definition hosvd_rank eps j : nat := explained_rank (s j) eps.
Definition hosvd_factor eps j : 'M[R]_(n j, hosvd_rank eps j) :=
  leading_columns (hosvd_rank eps j) (W j).
Definition hosvd eps : tensor R n := truncated (hosvd_factor eps) A.

Lemma hosvd_rank_reached eps j : eps <= 1 ->
  (hosvd_rank eps j <= n j)%N && explains (s j) eps (hosvd_rank eps j).
Proof.
by apply: explained_rank_reached => // i; exact: singular_value_ge0 (svd j).
Qed.

Lemma hosvd_factor_orthonormal eps j : eps <= 1 -> orthonormal (hosvd_factor eps j).
Proof.
move=> eps1; have /andP[Kn _] := hosvd_rank_reached j eps1; have [WW _ _] := svd j.
exact: leading_columns_orthonormal.
Qed.

Lemma hosvd_factor_explains eps j : eps <= 1 ->
  eps * |[A]| <= energy ((hosvd_factor eps j)^T *m unfold j A).
Proof.
move=> eps1; have /andP[_] := hosvd_rank_reached j eps1.
rewrite /explains (sum_squared_singular_values (svd j)) -sqnorm_unfold.
by rewrite (leading_columns_energy _ (svd j)).
Qed.

Lemma hosvd_factor_leading eps j : keeps_leading (hosvd_factor eps j) (unfold j A) (s j).
Proof. by rewrite /keeps_leading (leading_columns_energy _ (svd j)). Qed.

(* T3: |A - A~|^2 <= d (1 - eps) |A|^2 for HOSVD with ranks by D1. *)
Theorem T3_explained_variance eps :
  eps <= 1 -> |[A - hosvd eps]| <= d%:R * (1 - eps) * |[A]|.
Proof.
move=> eps1; apply: T3_a_priori => j; first exact: hosvd_factor_orthonormal.
exact: hosvd_factor_explains.
Qed.

(* T4: HOSVD is within sqrt(d) of the best of its multilinear rank. *)
Theorem T4_explained_variance eps B : eps <= 1 ->
  (forall j, (\rank (unfold j B) <= hosvd_rank eps j)%N) -> |[A - hosvd eps]| <= d%:R * |[A - B]|.
Proof.
move=> eps1; apply: (T4_quasi_optimal _ svd) => j; first exact: hosvd_factor_orthonormal.
exact: hosvd_factor_leading.
Qed.

(* T5: the ranks never fall as eps grows. *)
Theorem T5_ranks eps eps' j : eps <= eps' -> (hosvd_rank eps j <= hosvd_rank eps' j)%N.
Proof. by apply: explained_rank_monotone => i; exact: singular_value_ge0 (svd j). Qed.

(* T5: the error never grows with eps. *)
Theorem T5_explained_variance eps eps' :
  eps <= eps' -> eps' <= 1 -> |[A - hosvd eps']| <= |[A - hosvd eps]|.
Proof.
move=> le_eps eps1; apply: T5_nested => j.
- exact: hosvd_factor_orthonormal (le_trans le_eps eps1).
- exact: hosvd_factor_orthonormal.
have [WW _ _] := svd j; exact: leading_columns_nested (T5_ranks j le_eps) WW.
Qed.

(* T6: at eps = 1 nothing is lost. *)
Theorem T6_eps_one : hosvd 1 = A.
Proof.
apply: T6_explained_variance => j; first exact: hosvd_factor_orthonormal.
by rewrite -[X in X <= _]mul1r; exact: hosvd_factor_explains.
Qed.

End ExplainedVariance.

(* T7: for a matrix whose cut is not tied, s_K > c >= s_(K+1), HOSVD is the truncated SVD. *)
Theorem T7_matrix (R : realFieldType) m N (X : 'M[R]_(m, N)) W s V t K c :
  squared_singular_values X W s -> squared_singular_values X^T V t ->
  (forall i : 'I_m, (c < s i) = (i < K)%N) -> (forall k : 'I_N, (c < t k) = (k < K)%N) ->
  (K <= m)%N ->
  let P := leading_columns K W *m (leading_columns K W)^T in
  let Q := leading_columns K V *m (leading_columns K V)^T in
  P *m X *m Q = P *m X /\ P *m X *m Q = X *m Q.
Proof.
move=> ssvX ssvXt cutW cutV Km P Q; have PX := untied_projectors ssvX ssvXt cutW cutV.
have [WW _ _] := ssvX.
have PP : P *m P = P by have [] := orthonormal_projector (leading_columns_orthonormal Km WW).
have PXQ : P *m X *m Q = P *m X by rewrite -mulmxA -PX mulmxA PP.
by rewrite PXQ.
Qed.

(* ---- Sequential truncation (D4) ----------------------------------------- *)

Section Sequential.

Variables (R : realFieldType) (d : nat) (n r : 'I_d -> nat).
Variables (V : forall j, 'M[R]_(n j, r j)).
Hypothesis orthoV : forall j, orthonormal (V j).
Implicit Types (A : tensor R n) (s : seq 'I_d).

Local Notation "|[ X ]|" := (sqnorm (tensor_ip R _) X) (at level 0, X at level 99).

(* T8: the tensor after the modes of s is the core C that these modes leave, expanded again.
   The core's shape is q; M_i is V_i on the modes of s and the identity (or any orthogonal
   matrix) on the others. *)
Theorem T8_core_expanded (q : 'I_d -> nat) (M : forall i, 'M[R]_(n i, q i)) s A :
  uniq s ->
  (forall i, M i *m (M i)^T = if i \in s then V i *m (V i)^T else 1%:M) ->
  sequential V s A = tucker M (tucker (fun i => (M i)^T) A).
Proof.
move=> us MM; transitivity (mode_products s (factor_projector V) A).
  exact: (project_in_turnE (factor_projectionC orthoV) s A).
by rewrite mode_products_tucker // tucker_comp; apply: eq_tucker => i; rewrite MM.
Qed.

(* T8: what is certified for mode j of the core C holds for mode j of the expanded tensor. *)
Theorem T8_core_certifies (q : 'I_d -> nat) (M : forall i, 'M[R]_(n i, q i)) (C : tensor R q) j
    (W : 'M[R]_(q j)) sigma :
  (forall i, orthonormal (M i)) -> M j *m (M j)^T = 1%:M ->
  squared_singular_values (unfold j C) W sigma ->
  exists W' sigma', squared_singular_values (unfold j (tucker M C)) W' sigma' /\
    forall k (X : 'M[R]_(q j, k)), keeps_leading X (unfold j C) sigma ->
      keeps_leading (M j *m X) (unfold j (tucker M C)) sigma'.
Proof.
move=> MM Mj ssv; rewrite unfold_tucker.
apply: (keeps_leading_transfer (MM j) Mj _ ssv).
by apply: other_modes_orthonormal => i _; exact: MM.
Qed.

(* T8: with certified steps the error is at most the sum of HOSVD's discarded energies at
   ranks that are at most those of the steps. *)
Theorem T8_upper (r' : 'I_d -> nat) (U : forall j, 'M[R]_(n j, r' j)) (i0 : 'I_d) s A :
  perm_eq s (enum 'I_d) -> (forall j, orthonormal (U j)) -> (forall j, (r' j <= r j)%N) ->
  (forall t, (t < size s)%N -> let j := nth i0 s t in
     exists W sigma, squared_singular_values (unfold j (sequential V (take t s) A)) W sigma /\
       keeps_leading (V j) (unfold j (sequential V (take t s) A)) sigma) ->
  |[A - sequential V s A]| <= \sum_j discarded U j A.
Proof.
move=> s_all orthoU rr steps; have us : uniq s by rewrite (perm_uniq s_all) enum_uniq.
rewrite (T8_exact orthoV i0).
have -> : \sum_j discarded U j A = \sum_(t < size s) discarded U (nth i0 s t) A.
  by rewrite -big_enum -(perm_big _ s_all) /= (big_nth i0) big_mkord.
apply: ler_sum => t _; have [W [sigma [ssv lead]]] := steps t (ltn_ord t).
apply: T8_discarded_le (orthoV) (orthoU _) (rr _) _ ssv lead.
by rewrite in_take ?mem_nth // index_uniq // ltnn.
Qed.

(* T8: steps that keep a share eps each: |A^(d)|^2 >= eps^d |A|^2. *)
Theorem T8_kept eps (i0 : 'I_d) s A : 0 <= eps ->
  (forall t, (t < size s)%N -> let j := nth i0 s t in let X := sequential V (take t s) A in
     eps * |[X]| <= energy ((V j)^T *m unfold j X)) ->
  eps ^+ size s * |[A]| <= |[sequential V s A]|.
Proof.
move=> eps0; elim/last_ind: s => [|s j IHs] steps; first by rewrite expr0 mul1r.
have -> : sequential V (rcons s j) A = project_mode V j (sequential V s A).
  by rewrite /sequential -cats1 foldl_cat.
have last_step := steps (size s); rewrite size_rcons ltnSn nth_rcons ltnn eqxx in last_step.
rewrite -cats1 take_size_cat // in last_step.
rewrite size_rcons exprS -mulrA.
apply: (@le_trans _ _ (eps * |[sequential V s A]|)).
  apply: ler_wpmul2l => //; apply: IHs => t ts; have := steps t.
  by rewrite size_rcons ltnS (ltnW ts) nth_rcons ts -cats1 takel_cat ?(ltnW ts) //; apply.
apply: le_trans (last_step isT) _.
rewrite (sqnorm_unfold j (project_mode _ _ _)) unfold_mode_product -mulmxA.
by rewrite (energy_orthonormal _ (orthoV j)).
Qed.

Lemma bernoulli (eps : R) k : 0 <= eps <= 1 -> 1 - eps ^+ k <= k%:R * (1 - eps).
Proof.
case/andP=> eps0 eps1; elim: k => [|k IHk]; first by rewrite expr0 subrr mul0r.
have step : eps * (1 - eps ^+ k) <= 1 - eps ^+ k.
  by apply: ler_pimull => //; rewrite subr_ge0 exprn_ile1.
apply: (@le_trans _ _ (1 - eps ^+ k + (1 - eps))).
  by apply: le_same_slack step _; rewrite exprS; ring.
by apply: le_same_slack IHk _; rewrite -[k.+1]addn1 natrD; ring.
Qed.

(* T8: and therefore |A - A^(d)|^2 <= (1 - eps^d) |A|^2 <= d (1 - eps) |A|^2. *)
Theorem T8_a_priori eps (i0 : 'I_d) s A : 0 <= eps <= 1 -> size s = d ->
  (forall t, (t < size s)%N -> let j := nth i0 s t in let X := sequential V (take t s) A in
     eps * |[X]| <= energy ((V j)^T *m unfold j X)) ->
  |[A - sequential V s A]| <= (1 - eps ^+ d) * |[A]| /\
  (1 - eps ^+ d) * |[A]| <= d%:R * (1 - eps) * |[A]|.
Proof.
move=> eps01 sd steps; have /andP[eps0 _] := eps01.
have kept := T8_kept eps0 steps; rewrite sd in kept; split; last first.
  by apply: ler_wpmul2r; [exact: sqnorm_ge0 | exact: bernoulli].
have -> : |[A - sequential V s A]| = |[A]| - |[sequential V s A]|.
  have -> : sequential V s A = product_projection (factor_projectionC orthoV) s A.
    exact: (project_in_turnE (factor_projectionC orthoV) s A).
  exact: proj_error.
by apply: le_same_slack kept _; ring.
Qed.

End Sequential.
