(* The bounds of T3 and T4 are attained.

   Proved here: for every order d >= 2 a tensor for which the error, the sum of the discarded
   energies and the a-priori bound are one number (T3, above); for every order d >= 1 a tensor
   for which the error is what every single mode discards (T3, below); and the 2 x 2 identity,
   where the error of HOSVD is twice that of a matrix of the same rank, squared (T4).

   No hypothesis stands for a numerical fact: the singular value decompositions are given. *)

From mathcomp Require Import all_ssreflect all_algebra.
From refgrad Require Import inner_product tensor eckart_young decomposition.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Units.

Variables (R : realFieldType) (d : nat).

(* The shape 2 x ... x 2. *)
Definition two (j : 'I_d) : nat := 2.

Local Notation "|[ X ]|" := (sqnorm (tensor_ip R two) X) (at level 0, X at level 99).
Implicit Types (l k : index two) (b : 'I_d -> 'I_2).

(* The factors that keep the unit vector e_(b j) of mode j. *)
Definition unit_factor b j : 'M[R]_(two j, 1) := delta_mx (b j) 0.

Lemma unit_factor_orthonormal b j : orthonormal (unit_factor b j).
Proof.
rewrite /orthonormal /unit_factor trmx_delta mul_delta_mx.
by apply/matrixP => a c; rewrite !ord1 !mxE !eqxx.
Qed.

Lemma project_unit b j l :
  project_mode (unit_factor b) j (unit_tensor R l) = (l j == b j)%:R *: unit_tensor R l.
Proof.
apply/ffunP => k; rewrite mode_productE !ffunE (bigD1 (l j)) //= big1 ?addr0 => [|a al].
  rewrite /factor_projector /unit_factor trmx_delta mul_delta_mx mxE ffunE.
  have -> : (put k (l j) == l) = (without j k == without j l).
    apply/eqP/eqP => [<-|kl]; first by rewrite without_merge.
    by rewrite /put kl merge_without.
  have -> : (k == l) = (k j == l j) && (without j k == without j l).
    apply/eqP/andP => [->| [/eqP kl /eqP wl]]; first by rewrite !eqxx.
    by rewrite -(merge_without j k) kl wl merge_without.
  rewrite /GRing.scale /= -!natrM !mulnb; congr (nat_of_bool _)%:R.
  by have [->|] := eqVneq (l j) (b j); rewrite ?andbT ?andbF.
rewrite ffunE; case: eqP => [e|_]; last by rewrite mulr0.
by case/eqP: al; rewrite -e put_same.
Qed.

Lemma project_units b j (I : finType) (l : I -> index two) :
  project_mode (unit_factor b) j (\sum_i unit_tensor R (l i)) =
  \sum_i (l i j == b j)%:R *: unit_tensor R (l i).
Proof.
pose P := factor_projection (unit_factor_orthonormal b) j.
rewrite -[LHS]/(P _) (big_morph P (projD P) (proj0 P)).
by apply: eq_bigr => i _; exact: project_unit.
Qed.

Lemma truncated_unit b l j :
  l j != b j -> truncated (unit_factor b) (unit_tensor R l) = 0.
Proof.
move=> lb; set X := unit_tensor R l.
have fixed := project_all_fixed (factor_projectionC (unit_factor_orthonormal b)) X (mem_enum 'I_d j).
rewrite (truncatedE (unit_factor_orthonormal b) X (perm_refl _)) -fixed project_allC; last first.
  exact: factor_projectionC.
have -> : factor_projection (unit_factor_orthonormal b) j X = 0.
  by rewrite [LHS]project_unit (negbTE lb) scale0r.
exact: (proj0 (product_projection (factor_projectionC (unit_factor_orthonormal b)) _)).
Qed.

Lemma truncatedD b X Y :
  truncated (R := R) (unit_factor b) (X + Y) = truncated (unit_factor b) X + truncated (unit_factor b) Y.
Proof.
rewrite !(truncatedE (unit_factor_orthonormal b) _ (perm_refl _)).
exact: (projD (product_projection (factor_projectionC (unit_factor_orthonormal b)) _)).
Qed.

Lemma truncated_units b (I : finType) (l : I -> index two) :
  (forall i, exists j, l i j != b j) -> truncated (unit_factor b) (\sum_i unit_tensor R (l i)) = 0.
Proof.
move=> lb; elim/big_rec: _ => [|i X _ X0].
  rewrite (truncatedE (unit_factor_orthonormal b) _ (perm_refl _)).
  exact: (proj0 (product_projection (factor_projectionC (unit_factor_orthonormal b)) _)).
by have [j lbj] := lb i; rewrite truncatedD (truncated_unit lbj) X0 addr0.
Qed.

(* The norm of a sum of different units, some of them perhaps left out. *)
Lemma sqnorm_units (I : finType) (l : I -> index two) (c : I -> bool) : injective l ->
  |[\sum_i (c i)%:R *: unit_tensor R (l i)]| = \sum_i (c i)%:R.
Proof.
move=> l_inj; rewrite /sqnorm dot_suml; apply: eq_bigr => i _.
rewrite dot_sumr (bigD1 i) // big1 ?addr0 => [|k /andP[_ ki]].
  by rewrite dotZl dotZr dot_unit eqxx /= addr0; case: (c i); rewrite ?mulr1 ?mul0r.
by rewrite dotZl dotZr dot_unit (inj_eq l_inj) eq_sym (negbTE ki) !mulr0.
Qed.

(* Units any two of which differ away from mode j: the rows of the unfolding are orthogonal,
   and the unit vectors are its singular vectors. *)
Lemma gram_units j (I : finType) (l : I -> index two) :
  (forall i h : I, i != h -> without j (l i) != without j (l h)) ->
  let X := unfold j (\sum_i unit_tensor R (l i)) in
  X *m X^T = diag_mx (\row_a (\sum_i (l i j == a)%:R)).
Proof.
move=> apart; apply/matrixP => a e; rewrite mxE sum_columns.
have entry (f : 'I_(two j)) (c : others two j) :
    unfold j (\sum_i unit_tensor R (l i)) f (column_number c) =
    \sum_i ((l i j == f) && (c == without j (l i)))%:R.
  rewrite mxE column_numberK sum_ffunE; apply: eq_bigr => i _; rewrite ffunE.
  congr (nat_of_bool _)%:R; apply/eqP/andP => [<-| [/eqP <- /eqP ->]]; last exact: merge_without.
  by rewrite merge_same without_merge !eqxx.
transitivity (\sum_c \sum_i ((l i j == a) && (c == without j (l i)))%:R *
    (\sum_h ((l h j == e) && (c == without j (l h)))%:R) : R).
  by apply: eq_bigr => c _; rewrite -mulr_suml -!entry; congr (_ * _); rewrite mxE.
rewrite exchange_big !mxE -[RHS]mulr_natl mulr_sumr; apply: eq_bigr => i _ /=.
rewrite (bigD1 (without j (l i))) //= [X in _ + X]big1 ?addr0 => [|c ci]; last first.
  by rewrite (negbTE ci) andbF mul0r.
rewrite (bigD1 i) //= [X in _ * (_ + X)]big1 ?addr0 => [|h hi].
  rewrite !eqxx !andbT -!natrM !mulnb; congr (nat_of_bool _)%:R.
  by have [->|] := eqVneq (l i j) a; rewrite ?andbT ?andbF // eq_sym.
by rewrite [X in _ && X]eq_sym (negbTE (apart _ _ hi)) andbF.
Qed.

(* ---- T3, above ----------------------------------------------------------- *)

(* The multi-index with 1 at place i and 0 elsewhere. *)
Definition single (i : 'I_d) : index two := [ffun j => if j == i then 1 else 0 : 'I_2].

Lemma single_inj : injective single.
Proof.
by move=> i k /ffunP/(_ i); rewrite !ffunE eqxx; case: eqP.
Qed.

Lemma single_zero i j : (single i j == 0) = (i != j).
Proof. by rewrite ffunE (eq_sym i); case: (j == i). Qed.

(* Ones at the d places whose multi-index has a single 1; factors that keep e_0. *)
Definition singles : tensor R two := \sum_i unit_tensor R (single i).
Definition zeros : forall j : 'I_d, 'M[R]_(two j, 1) := unit_factor (fun=> 0).

Lemma singles_sqnorm : |[singles]| = d%:R.
Proof.
have := sqnorm_units (fun=> true) single_inj.
by rewrite sumr_const card_ord => <-; congr (|[_]|); apply: eq_bigr => i _; rewrite scale1r.
Qed.

Lemma singles_discarded j : discarded zeros j singles = 1.
Proof.
rewrite /discarded /zeros project_units.
have -> : singles - \sum_i (single i j == 0)%:R *: unit_tensor R (single i) = unit_tensor R (single j).
  rewrite /singles -sumrB (bigD1 j) //= big1 ?addr0 => [|i ij].
    by rewrite single_zero eqxx scale0r subr0.
  by rewrite single_zero ij scale1r subrr.
by rewrite /sqnorm dot_unit eqxx.
Qed.

Lemma singles_energy j : energy ((zeros j)^T *m unfold j singles) = d%:R - 1.
Proof.
have := discardedE (unit_factor_orthonormal (fun=> 0)) j singles.
rewrite -/zeros singles_discarded singles_sqnorm => /eqP.
by rewrite eq_sym subr_eq addrC -subr_eq => /eqP ->.
Qed.

Lemma singles_apart j (i h : 'I_d) : i != h -> without j (single i) != without j (single h).
Proof.
move=> ih; apply/eqP => e.
have same (p : 'I_d) : p != j -> single i p = single h p.
  by move=> pj; move/ffunP/(_ (exist _ p pj)): e; rewrite !ffunE.
have [ij|ij] := eqVneq i j.
  have hj : h != j by rewrite -ij eq_sym.
  by move: (same h hj); rewrite !ffunE eqxx eq_sym (negbTE ih).
by move: (same i ij); rewrite !ffunE eqxx (negbTE ih).
Qed.

(* The squared singular values of a mode: d - 1 and 1. *)
Definition singles_spectrum (a : 'I_2) : R := if a == 0 then d%:R - 1 else 1.

Lemma singles_svd j : (1 < d)%N ->
  squared_singular_values (unfold j singles) 1%:M singles_spectrum.
Proof.
move=> d2; split.
- by rewrite /orthonormal trmx1 mulmx1.
- rewrite trmx1 mul1mx mulmx1 (gram_units (@singles_apart j)); congr diag_mx.
  apply/rowP => a; rewrite !mxE /singles_spectrum.
  have [->|a0] := eqVneq a 0.
    rewrite (eq_bigr (fun i => (i != j)%:R)) => [|i _]; last by rewrite single_zero.
    rewrite (bigD1 j) //= eqxx add0r (eq_bigr (fun=> 1)) => [|i ij]; last by rewrite ij.
    by rewrite sumr_const cardC1 card_ord -subn1 natrB // ltnW.
  have one i : (single i j == a) = (i == j).
    have -> : a = 1 by apply/val_inj; case: a a0 => [[| [|?]]].
    by rewrite ffunE (eq_sym i); case: (j == i).
  rewrite (eq_bigr (fun i => (i == j)%:R)) => [|i _]; last by rewrite one.
  by rewrite (bigD1 j) //= eqxx big1 ?addr0 // => i /negbTE ->.
have le1 : 1 <= d%:R - 1 :> R by rewrite ler_subr_addr -[1 + 1]/(2%:R : R) ler_nat.
by move=> [[| [|?]] ?] [[| [|?]] ?].
Qed.

(* T3: sharp above, in all places at once, for every order d >= 2: tau_j = 1 for every j, and the
   error, their sum and d (1 - eps) |A|^2 are all d, with eps = (d - 1) / d explained. *)
Theorem T3_upper_sharp : (1 < d)%N ->
  let eps := 1 - d%:R^-1 in
  [/\ forall j, orthonormal (zeros j),
      forall j, squared_singular_values (unfold j singles) 1%:M singles_spectrum /\
        keeps_leading (zeros j) (unfold j singles) singles_spectrum,
      forall j, eps * |[singles]| = energy ((zeros j)^T *m unfold j singles),
      |[singles - truncated zeros singles]| = \sum_j discarded zeros j singles
    & \sum_j discarded zeros j singles = d%:R * (1 - eps) * |[singles]| ].
Proof.
move=> d2 eps; have d0 : d%:R != 0 :> R by rewrite pnatr_eq0 -lt0n ltnW.
have sum1 : \sum_(j < d) discarded zeros j singles = d%:R.
  by rewrite (eq_bigr (fun=> 1)) ?sumr_const ?card_ord // => j _; exact: singles_discarded.
split=> [j|j|j||].
- exact: unit_factor_orthonormal.
- split; first exact: singles_svd.
  rewrite /keeps_leading singles_energy (bigD1 (0 : 'I_2)) //= big1 ?addr0 //.
  by case=> [[|?] ?].
- by rewrite singles_energy singles_sqnorm mulrBl mulVf // mul1r.
- rewrite truncated_units ?subr0 ?singles_sqnorm ?sum1 // => i.
  by exists i; rewrite single_zero eqxx.
- by rewrite sum1 singles_sqnorm /eps opprB addrC subrK mulfV // mul1r.
Qed.

(* ---- T3, below, and T4: the identity ---------------------------------------- *)

(* The multi-index (a, ..., a), and the tensor with ones at (0, ..., 0) and (1, ..., 1). *)
Definition diagonal (a : 'I_2) : index two := [ffun=> a].
Definition identity_tensor : tensor R two := \sum_a unit_tensor R (diagonal a).

Lemma diagonal_inj : (0 < d)%N -> injective diagonal.
Proof. by move=> d0 a c /ffunP/(_ (Ordinal d0)); rewrite !ffunE. Qed.

Lemma identity_sqnorm : (0 < d)%N -> |[identity_tensor]| = 2%:R.
Proof.
move=> d0; have := sqnorm_units (fun=> true) (diagonal_inj d0).
rewrite sumr_const card_ord => <-; congr (sqnorm _ _).
by apply: eq_bigr => a _; rewrite scale1r.
Qed.

Lemma identity_discarded b j : (0 < d)%N -> discarded (unit_factor b) j identity_tensor = 1.
Proof.
move=> d0; rewrite /discarded project_units.
have -> : identity_tensor - \sum_a (diagonal a j == b j)%:R *: unit_tensor R (diagonal a) =
    \sum_a (a != b j)%:R *: unit_tensor R (diagonal a).
  rewrite /identity_tensor -sumrB; apply: eq_bigr => a _; rewrite ffunE.
  by case: (a == b j); rewrite ?scale1r ?scale0r ?subrr ?subr0.
rewrite (sqnorm_units _ (diagonal_inj d0)) (bigD1 (b j)) //= eqxx add0r.
rewrite (eq_bigr (fun=> 1)) => [|a ab]; last by rewrite ab.
by rewrite sumr_const cardC1 card_ord.
Qed.

(* All singular values are 1: every unit vector of every mode is a leading singular vector. *)
Lemma identity_leading b j : (1 < d)%N ->
  squared_singular_values (unfold j identity_tensor) 1%:M (fun=> 1) /\
  keeps_leading (unit_factor b j) (unfold j identity_tensor) (fun=> 1).
Proof.
move=> d1; have d0 : (0 < d)%N by exact: ltnW.
have [p pj] : exists p : 'I_d, p != j.
  by apply/existsP; rewrite -(card_ord d) (cardD1 j) ltnS in d1; case/card_gt0P: d1 => p;
     rewrite !inE andbT => pj; apply/existsP; exists p.
have apart (a c : 'I_2) : a != c -> without j (diagonal a) != without j (diagonal c).
  by apply: contraNneq => /ffunP/(_ (exist _ p pj)); rewrite !ffunE => ->.
split; first split=> //.
- by rewrite /orthonormal trmx1 mulmx1.
- rewrite trmx1 mul1mx mulmx1 (gram_units apart); congr diag_mx.
  apply/rowP => a; rewrite !mxE (bigD1 a) //= ffunE eqxx big1 ?addr0 // => c ca.
  by rewrite ffunE (negbTE ca).
have := discardedE (unit_factor_orthonormal b) j identity_tensor.
rewrite identity_discarded // identity_sqnorm // /keeps_leading => /eqP.
rewrite eq_sym subr_eq addrC -subr_eq => /eqP <-.
rewrite (bigD1 (0 : 'I_2)) //= big1 ?addr0 ?ler_subr_addr //.
by case=> [[|?] ?].
Qed.

(* T3: sharp below, for every order d >= 2: every mode discards the whole error. *)
Theorem T3_lower_sharp : (1 < d)%N ->
  [/\ forall j, orthonormal (zeros j),
      forall j, squared_singular_values (unfold j identity_tensor) 1%:M (fun=> 1) /\
        keeps_leading (zeros j) (unfold j identity_tensor) (fun=> 1)
    & forall j, discarded zeros j identity_tensor = |[identity_tensor - truncated zeros identity_tensor]| ].
Proof.
move=> d1; have d0 : (0 < d)%N by exact: ltnW.
split=> j; [exact: unit_factor_orthonormal | exact: identity_leading |].
rewrite /discarded; congr (sqnorm _ (_ - _)).
have -> : project_mode zeros j identity_tensor = unit_tensor R (diagonal 0).
  rewrite /zeros project_units (bigD1 0) //= ffunE eqxx scale1r big1 ?addr0 // => a a0.
  by rewrite ffunE (negbTE a0) scale0r.
rewrite /identity_tensor (bigD1 0) //= truncatedD.
have -> : truncated zeros (\sum_(a < 2 | a != 0) unit_tensor R (diagonal a)) = 0.
  rewrite (big_pred1 1) => [|a]; last by case: a => [[| [|?]] ?].
  by apply: (@truncated_unit _ _ j); rewrite ffunE.
rewrite addr0; apply/esym.
rewrite (truncatedE (unit_factor_orthonormal _) _ (perm_refl _)); apply: project_all_id => i _.
by rewrite [LHS]project_unit ffunE eqxx scale1r.
Qed.

(* T4: sharp for d = 2.  The leading vectors of two modes need not belong together: then HOSVD
   loses the whole identity, 2, where a tensor of the same ranks loses 1. *)
Theorem T4_sharp (i k : 'I_d) : i != k ->
  let U := unit_factor (fun j => if j == i then 0 else 1) in
  let B := unit_tensor R (diagonal 0) in
  [/\ forall j, orthonormal (U j),
      forall j, squared_singular_values (unfold j identity_tensor) 1%:M (fun=> 1) /\
        keeps_leading (U j) (unfold j identity_tensor) (fun=> 1),
      forall j, (\rank (unfold j B) <= 1)%N
    & |[identity_tensor - truncated U identity_tensor]| = 2%:R * |[identity_tensor - B]| ].
Proof.
move=> ik U B; have d1 : (1 < d)%N.
  by case: d i k ik {U B} => [| [|?]] // [[|?] ?] [[|?] ?].
have d0 : (0 < d)%N by exact: ltnW.
split=> [j|j|j|]; [exact: unit_factor_orthonormal | exact: identity_leading | |].
  have -> : B = project_mode (unit_factor (fun=> 0)) j B by rewrite project_unit ffunE eqxx scale1r.
  rewrite unfold_mode_product; apply: leq_trans (mxrankM_maxl _ _) _.
  exact: leq_trans (mxrankM_maxl _ _) (rank_leq_col _).
rewrite truncated_units => [|a]; last first.
  case: (eqVneq a 0) => [->|a0]; [exists k | exists i]; rewrite ffunE ?eqxx //.
  by rewrite (eq_sym k) (negbTE ik).
rewrite subr0 identity_sqnorm //; have -> : identity_tensor - B = unit_tensor R (diagonal 1).
  rewrite /identity_tensor (bigD1 0) //= addrC addKr (big_pred1 1) // => a.
  by case: a => [[| [|?]] ?].
by rewrite /sqnorm dot_unit eqxx mulr1.
Qed.

End Units.
