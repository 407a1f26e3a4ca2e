(* Energies of matrices, their squared singular values, and the Eckart-Young theorem.

   Proved here, for a matrix X with m rows: the projector on the column space of a matrix
   exists over any ordered field (no root is needed); a projector of rank at most r keeps
   no more of X than its r largest squared singular values; so no matrix of rank at most r
   is nearer to X than the discarded energy; and an untied cut makes the left and the
   right projector agree.  Explained-variance ranks (D1) are here too.

   Hypotheses that stand for numerical facts:
   - [orthonormal U]: U^T U = 1.  The check of the oracle is orthonormal_verdict.
   - [squared_singular_values X W s]: W is orthogonal, W^T X X^T W is the diagonal of s,
     and s falls.  This MathComp has no spectral theorem.  It is the reference's singular
     value decomposition of X, of which W and s are what the oracle recomputes.
   - [keeps_leading r U X s]: |U^T X|^2 is at least the sum of the r largest values.  The
     check of the oracle is subspace_verdict, its part on the energy. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import inner_product tensor.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* ---- Matrices as an inner product space -------------------------------- *)

Section MatrixSpace.

Variables (R : realFieldType) (m N : nat).
Implicit Types (X Y : 'M[R]_(m, N)) (Q : 'M[R]_m).

(* The squared Frobenius norm. *)
Definition energy X : R := \sum_a \sum_c X a c ^+ 2.

Lemma energyE X : energy X = \tr (X *m X^T).
Proof.
by apply: eq_bigr => a _; rewrite mxE; apply: eq_bigr => c _; rewrite mxE expr2.
Qed.

Lemma energy_ge0 X : 0 <= energy X.
Proof. by do 2!apply: sumr_ge0 => ? _; rewrite sqr_ge0. Qed.

Lemma energy_eq0 X : energy X = 0 -> X = 0.
Proof.
move/eqP; rewrite psumr_eq0 => [/allP X0|a _]; last first.
  by apply: sumr_ge0 => c _; rewrite sqr_ge0.
apply/matrixP => a c; rewrite mxE; move: (X0 a (mem_index_enum a)) => /=.
rewrite psumr_eq0 => [/allP/(_ c (mem_index_enum c))/=|i _]; last exact: sqr_ge0.
by rewrite sqrf_eq0 => /eqP.
Qed.

(* The entrywise inner product of matrices, tr (X Y^T). *)
Definition matrix_ip : innerProduct [lmodType R of 'M[R]_(m, N)].
Proof.
exists (fun X Y => \tr (X *m Y^T)) => [X Y Z|a X Y|X Y|X|X].
- by rewrite mulmxDl mxtraceD.
- by rewrite -scalemxAl mxtraceZ.
- by rewrite -mxtrace_tr trmx_mul trmxK.
- by rewrite -energyE energy_ge0.
- by rewrite -energyE; exact: energy_eq0.
Defined.

Lemma sqnorm_matrix X : sqnorm matrix_ip X = energy X.
Proof. by rewrite energyE. Qed.

(* A projector multiplied from the left projects the columns. *)
Definition left_projection Q (projQ : projector Q) : orthoProjection matrix_ip.
Proof.
exists (fun X => Q *m X) => [X Y|a X|X|X Y].
- exact: mulmxDr.
- by rewrite scalemxAr.
- by rewrite mulmxA projQ.2.
- by rewrite /= trmx_mul projQ.1 -mulmxA mxtrace_mulC -mulmxA.
Defined.

Lemma energy_projector Q X : projector Q -> energy (Q *m X) = \tr (Q *m (X *m X^T)).
Proof.
by case=> QT QQ; rewrite energyE trmx_mul QT !mulmxA [LHS]mxtrace_mulC !mulmxA QQ.
Qed.

Lemma energy_projector_le Q X : projector Q -> energy (Q *m X) <= energy X.
Proof. by move=> projQ; rewrite -!sqnorm_matrix; apply: (proj_le (left_projection projQ)). Qed.

Lemma energy_projector_error Q X :
  projector Q -> energy (X - Q *m X) = energy X - energy (Q *m X).
Proof. by move=> projQ; rewrite -!sqnorm_matrix; apply: (proj_error (left_projection projQ)). Qed.

End MatrixSpace.

(* With orthonormal columns U: |U Z|^2 = |Z|^2. *)
Lemma energy_orthonormal (R : realFieldType) m r N (U : 'M[R]_(m, r)) (Z : 'M[R]_(r, N)) :
  orthonormal U -> energy (U *m Z) = energy Z.
Proof.
move=> UU; rewrite !energyE trmx_mul !mulmxA [LHS]mxtrace_mulC !mulmxA.
by rewrite UU mul1mx.
Qed.

(* ---- The projector on a column space ----------------------------------- *)

Section ColumnSpace.

Variables (R : realFieldType).

(* A matrix with independent columns has an invertible Gram matrix. *)
Lemma gram_unit m r (V : 'M[R]_(m, r)) : row_free V^T -> V^T *m V \in unitmx.
Proof.
move=> free; rewrite -row_free_unit; apply: inj_row_free => v vG0.
have: energy (v *m V^T) = 0.
  by rewrite energyE trmx_mul trmxK mulmxA -(mulmxA v) vG0 mul0mx mxtrace0.
move/energy_eq0; rewrite -(mul0mx _ V^T); exact: row_free_inj.
Qed.

(* The projector on the column space of M: it fixes M and its rank is that of M. *)
Lemma column_space_projector m N (M : 'M[R]_(m, N)) :
  exists Q : 'M[R]_m, [/\ projector Q, Q *m M = M & (\rank Q <= \rank M)%N].
Proof.
have [V [free [B defM]]] : exists V : 'M[R]_(m, \rank M), row_free V^T /\ exists B, M = V *m B.
  exists (col_base M); split; first by rewrite /row_free mxrank_tr; exact: col_base_full.
  by exists (row_base M); rewrite mulmx_base.
have [G defG] : {G | V^T *m V = G} by exists (V^T *m V).
have G1 : G \in unitmx by rewrite -defG; exact: gram_unit.
have GT : G^T = G by rewrite -defG trmx_mul trmxK.
have QV : V *m invmx G *m V^T *m V = V by rewrite -mulmxA defG -mulmxA mulVmx ?mulmx1.
exists (V *m invmx G *m V^T); split.
- split; first by rewrite !trmx_mul trmxK trmx_inv GT mulmxA.
  by rewrite !mulmxA QV.
- by have := congr1 (mulmx^~ B) QV; rewrite /= -mulmxA -defM.
- by rewrite -mulmxA (leq_trans (mxrankM_maxl _ _)) // rank_leq_col.
Qed.

(* The trace of an idempotent matrix is its rank. *)
Lemma trace_idempotent m (Q : 'M[R]_m) : Q *m Q = Q -> \tr Q = (\rank Q)%:R.
Proof.
move=> QQ.
have [C [B [/row_fullP[C' CC'] /row_freeP[B' BB'] defQ]]] : exists (C : 'M[R]_(m, \rank Q)) B,
    [/\ row_full C, row_free B & C *m B = Q].
  by exists (col_base Q), (row_base Q); rewrite col_base_full row_base_free mulmx_base.
have e : C *m (B *m C) *m B = C *m B.
  by transitivity ((C *m B) *m (C *m B)); [rewrite !mulmxA | rewrite defQ].
have BC : B *m C = 1%:M.
  have := congr1 (fun Z => C' *m Z *m B') e.
  by rewrite /= !mulmxA CC' !mul1mx -!mulmxA BB' mulmx1.
by have := mxtrace_mulC C B; rewrite defQ BC mxtrace1.
Qed.

End ColumnSpace.

(* ---- Squared singular values and the Eckart-Young theorem --------------- *)

Section EckartYoung.

Variables (R : realFieldType) (m N : nat).
Implicit Types (X M : 'M[R]_(m, N)) (W Q : 'M[R]_m) (s : 'I_m -> R).

(* The columns of W are left singular vectors of X, s its squared singular values. *)
Definition squared_singular_values X W s : Prop :=
  [/\ orthonormal W, W^T *m (X *m X^T) *m W = diag_mx (\row_i s i)
    & forall i k : 'I_m, (i <= k)%N -> s k <= s i].

(* |U^T X|^2 is at least the sum of the r largest squared singular values. *)
Definition keeps_leading r (U : 'M[R]_(m, r)) X s : Prop :=
  \sum_(i < m | (i < r)%N) s i <= energy (U^T *m X).

Lemma singular_value_ge0 X W s i : squared_singular_values X W s -> 0 <= s i.
Proof.
case=> _ diag _.
have -> : s i = ((W^T *m X) *m (W^T *m X)^T) i i.
  by rewrite trmx_mul trmxK !mulmxA -(mulmxA _ X) diag !mxE eqxx mulr1n.
by rewrite mxE; apply: sumr_ge0 => c _; rewrite [X in _ * X]mxE -expr2 sqr_ge0.
Qed.

(* A sum with weights in [0, 1] that add up to at most r is at most the sum of the r
   largest terms. *)
Lemma weighted_sum_le r s (w : 'I_m -> R) :
  (forall i, 0 <= s i) -> (forall i k : 'I_m, (i <= k)%N -> s k <= s i) ->
  (forall i, 0 <= w i <= 1) -> \sum_i w i <= r%:R ->
  \sum_i s i * w i <= \sum_(i < m | (i < r)%N) s i.
Proof.
move=> s0 falls w01 wr; rewrite [X in _ <= X]big_mkcond /=.
have [mr|rm] := leqP m r.
  apply: ler_sum => i _; rewrite (leq_trans (ltn_ord i) mr).
  by apply: ler_pimulr => //; case/andP: (w01 i).
pose c := s (Ordinal rm).
have bound i : s i * w i <= (if (i < r)%N then s i else 0) + c * (w i - (i < r)%N%:R).
  have /andP[w0 w1] := w01 i; case: ltnP => ir /=.
    have sc : 0 <= s i - c by rewrite subr_ge0 falls // ltnW.
    have w1' : 0 <= 1 - w i by rewrite subr_ge0.
    apply: le_same_slack (mulr_ge0 sc w1') _; ring.
  rewrite mulr0n subr0 add0r; apply: ler_wpmul2r => //; exact: falls.
apply: (le_trans (ler_sum _ (fun i _ => bound i))).
rewrite big_split /= -mulr_sumr sumrB ger_addl mulr_ge0_le0 ?s0 // subr_le0.
suff -> : \sum_(i < m) (i < r)%N%:R = r%:R :> R by [].
rewrite -natr_sum; congr _%:R.
transitivity (\sum_(i < m | (i < r)%N) 1)%N.
  by rewrite [RHS]big_mkcond; apply: eq_bigr => i _; case: ltnP.
by rewrite -(big_ord_widen m (fun=> 1%N) (ltnW rm)) sum_nat_const card_ord muln1.
Qed.

(* A projector of rank at most r keeps at most the r largest squared singular values. *)
Lemma projector_energy_le r Q X W s :
  squared_singular_values X W s -> projector Q -> (\rank Q <= r)%N ->
  energy (Q *m X) <= \sum_(i < m | (i < r)%N) s i.
Proof.
move=> ssv projQ rankQ; have [WW diag falls] := ssv.
have WWt : W *m W^T = 1%:M by apply: mulmx1C.
have [QT QQ] := projQ.
have [T defT] : {T | T = W^T *m Q *m W} by exists (W^T *m Q *m W).
have TT : T^T = T by rewrite defT trmx_mul trmx_mul trmxK QT mulmxA.
have TI : T *m T = T.
  by rewrite defT !mulmxA -(mulmxA (W^T *m Q) W) WWt mulmx1 -(mulmxA _ Q Q) QQ.
have Tii i : T i i = \sum_k T i k ^+ 2.
  by rewrite -{1}TI mxE; apply: eq_bigr => k _; rewrite -{2}TT mxE expr2.
have -> : energy (Q *m X) = \sum_i s i * T i i.
  rewrite energy_projector //.
  transitivity (\tr (T *m (W^T *m (X *m X^T) *m W))).
    have -> : T *m (W^T *m (X *m X^T) *m W) = W^T *m (Q *m (X *m X^T)) *m W.
      by rewrite defT !mulmxA -(mulmxA _ W W^T) WWt mulmx1.
    by rewrite [RHS]mxtrace_mulC !mulmxA WWt mul1mx.
  rewrite diag; apply: eq_bigr => i _; rewrite mxE (bigD1 i) //= !mxE eqxx mulr1n.
  rewrite big1 ?addr0 => [|k ki]; last by rewrite !mxE (negbTE ki) mulr0n mulr0.
  by rewrite mulrC.
apply: weighted_sum_le => // [i|i|].
- exact: singular_value_ge0 ssv.
- have T0 : 0 <= T i i by rewrite Tii; apply: sumr_ge0 => k _; rewrite sqr_ge0.
  have T1 : T i i ^+ 2 <= T i i.
    by rewrite [X in _ <= X]Tii (bigD1 i) //= ler_addl; apply: sumr_ge0 => k _; rewrite sqr_ge0.
  rewrite T0 /= leNgt; apply/negP => lt1; move: T1; rewrite leNgt expr2 => /negP; apply.
  by rewrite ltr_pmull // (lt_trans ltr01).
have -> : \sum_i T i i = \tr T by [].
by rewrite defT mxtrace_mulC !mulmxA WWt mul1mx trace_idempotent // ler_nat.
Qed.

(* Eckart and Young: no matrix of rank at most r is nearer than the discarded energy. *)
Lemma eckart_young r X M W s :
  squared_singular_values X W s -> (\rank M <= r)%N ->
  energy X - \sum_(i < m | (i < r)%N) s i <= energy (X - M).
Proof.
move=> ssv rankM; have [Q [projQ QM rankQ]] := column_space_projector M.
have -> : energy X - \sum_(i < m | (i < r)%N) s i =
  energy X - energy (Q *m X) + (energy (Q *m X) - \sum_(i < m | (i < r)%N) s i) by ring.
rewrite -energy_projector_error //.
apply: (@le_trans _ _ (energy (X - Q *m X))).
  by rewrite ger_addl subr_le0 (projector_energy_le ssv) // (leq_trans rankQ).
have := @proj_nearest _ _ _ (left_projection N projQ) X M QM.
by rewrite !sqnorm_matrix.
Qed.

(* Columns that keep the leading energy are at least as near as any matrix of their rank. *)
Lemma leading_nearest r (U : 'M[R]_(m, r)) X M W s :
  squared_singular_values X W s -> orthonormal U -> keeps_leading U X s ->
  (\rank M <= r)%N -> energy (X - U *m U^T *m X) <= energy (X - M).
Proof.
move=> ssv UU lead rankM; apply: le_trans (eckart_young ssv rankM).
rewrite energy_projector_error; last exact: orthonormal_projector.
by rewrite ler_add2l ler_opp2 -mulmxA energy_orthonormal.
Qed.

End EckartYoung.

(* ---- Factors for another matrix with the same Gram matrix ----------------- *)

(* Y and X = O Y K^T with O orthogonal and orthonormal K: what is certified for Y holds for X. *)
Lemma keeps_leading_transfer (R : realFieldType) m q N N' (O : 'M[R]_(m, q)) (Y : 'M[R]_(q, N'))
    (K : 'M[R]_(N, N')) (W : 'M[R]_q) (s : 'I_q -> R) :
  orthonormal O -> O *m O^T = 1%:M -> orthonormal K -> squared_singular_values Y W s ->
  exists W' s', squared_singular_values (O *m Y *m K^T) W' s' /\
    forall r (V : 'M[R]_(q, r)), keeps_leading V Y s -> keeps_leading (O *m V) (O *m Y *m K^T) s'.
Proof.
move=> OO OOt KK ssv.
have qm : q = m.
  have tr_eq : (q%:R : R) = m%:R by rewrite -mxtrace1 -OO mxtrace_mulC OOt mxtrace1.
  by apply/eqP; rewrite -(eqr_nat R) tr_eq.
subst q; have [WW diag falls] := ssv; exists (O *m W), s; split.
  split=> //; first by rewrite /orthonormal trmx_mul mulmxA -(mulmxA W^T) OO mulmx1.
  rewrite !trmx_mul trmxK !mulmxA -(mulmxA _ K^T K) KK mulmx1.
  rewrite -(mulmxA W^T O^T O) OO mulmx1 -(mulmxA _ O^T O) OO mulmx1.
  by rewrite -diag !mulmxA.
move=> r V lead; rewrite /keeps_leading.
have -> : energy ((O *m V)^T *m (O *m Y *m K^T)) = energy (V^T *m Y) => [|//].
rewrite trmx_mul !mulmxA -(mulmxA V^T) OO mulmx1 !energyE.
by rewrite [in LHS]trmx_mul trmxK !mulmxA -(mulmxA _ K^T K) KK mulmx1.
Qed.

(* ---- The leading columns, and the rank that explains the variance -------- *)

Section Leading.

Variables (R : realFieldType) (m : nat).
Implicit Types (W : 'M[R]_m) (s : 'I_m -> R) (K : nat) (eps : R).

(* The first K columns of W. *)
Definition leading_columns K W : 'M[R]_(m, K) := W *m (pid_mx K : 'M_(m, K)).

Lemma leading_columns_orthonormal K W :
  (K <= m)%N -> orthonormal W -> orthonormal (leading_columns K W).
Proof.
move=> Km WW; rewrite /orthonormal trmx_mul mulmxA -(mulmxA _ W^T) WW mulmx1 tr_pid_mx.
by rewrite mul_pid_mx minnn (minn_idPr Km) pid_mx_1.
Qed.

Lemma leading_columns_projector K W :
  leading_columns K W *m (leading_columns K W)^T = W *m (pid_mx K : 'M_m) *m W^T.
Proof.
rewrite /leading_columns trmx_mul tr_pid_mx !mulmxA -(mulmxA W) mul_pid_mx.
by rewrite minnn; congr (_ *m _ *m _); apply/matrixP => a c; rewrite !mxE leq_min; case: ltnP.
Qed.

(* Fewer leading columns span less. *)
Lemma leading_columns_nested K K' W : (K <= K')%N -> orthonormal W ->
  leading_columns K' W *m (leading_columns K' W)^T *m (leading_columns K W *m (leading_columns K W)^T)
    = leading_columns K W *m (leading_columns K W)^T.
Proof.
move=> KK' WW; rewrite !leading_columns_projector !mulmxA -(mulmxA _ W^T W) WW mulmx1.
by rewrite -(mulmxA W) mul_pid_mx (minn_idPr KK') pid_mx_minv.
Qed.

(* Leading columns keep the leading energy, exactly. *)
Lemma leading_columns_energy N (X : 'M[R]_(m, N)) K W s : squared_singular_values X W s ->
  energy ((leading_columns K W)^T *m X) = \sum_(i < m | (i < K)%N) s i.
Proof.
case=> _ diag _; rewrite energyE.
transitivity (\tr ((pid_mx K : 'M_m) *m (W^T *m (X *m X^T) *m W))).
  rewrite /leading_columns !trmx_mul !tr_pid_mx trmxK.
  transitivity (\tr ((pid_mx K : 'M_(K, m)) *m (W^T *m (X *m X^T) *m W) *m (pid_mx K : 'M_(m, K)))).
    by rewrite !mulmxA.
  rewrite [LHS]mxtrace_mulC [X in \tr X = _]mulmxA mul_pid_mx; congr (\tr (_ *m _)).
  by apply/matrixP => a c; rewrite !mxE !leq_min; case: ltnP; rewrite ?andbF.
rewrite diag mul_mx_diag /mxtrace [RHS]big_mkcond; apply: eq_bigr => i _.
by rewrite !mxE eqxx /=; case: ltnP; rewrite ?mul1r ?mul0r.
Qed.

(* The squared singular values add up to the energy. *)
Lemma sum_squared_singular_values N (X : 'M[R]_(m, N)) W s :
  squared_singular_values X W s -> \sum_i s i = energy X.
Proof.
case=> WW diag _; transitivity (\tr (W^T *m (X *m X^T) *m W)).
  by rewrite diag mxtrace_diag; apply: eq_bigr => i _; rewrite mxE.
by rewrite [LHS]mxtrace_mulC [X in \tr X = _]mulmxA (mulmx1C WW) mul1mx energyE.
Qed.

(* The K largest squared singular values explain the share eps of their sum. *)
Definition explains s eps K : bool :=
  eps * (\sum_i s i) <= \sum_(i < m | (i < K)%N) s i.

(* D1: the smallest K >= 1 that explains the share eps. *)
Definition explained_rank s eps : nat := (find (fun k => explains s eps k.+1) (iota 0 m)).+1.

Lemma explained_rank_reached s eps : (0 < m)%N -> (forall i, 0 <= s i) -> eps <= 1 ->
  (explained_rank s eps <= m)%N && explains s eps (explained_rank s eps).
Proof.
move=> m0 s0 eps1.
have some_k : has (fun k => explains s eps k.+1) (iota 0 m).
  apply/hasP; exists m.-1; first by rewrite mem_iota /= add0n prednK.
  rewrite prednK // /explains [X in _ <= X](eq_bigl xpredT) => [|i]; last by rewrite ltn_ord.
  by apply: ler_pimull => //; apply: sumr_ge0.
have := some_k; rewrite has_find size_iota => lt_m; rewrite lt_m /=.
by have := nth_find 0%N some_k; rewrite nth_iota.
Qed.

Lemma explained_rank_least s eps K :
  (0 < K < explained_rank s eps)%N -> (K <= m)%N -> explains s eps K = false.
Proof.
case: K => // K; rewrite ltnS /= => lt_find Km; have := before_find 0%N lt_find.
by rewrite nth_iota.
Qed.

(* T5: the rank never falls as eps grows. *)
Lemma explained_rank_monotone s eps eps' :
  (forall i, 0 <= s i) -> eps <= eps' -> (explained_rank s eps <= explained_rank s eps')%N.
Proof.
move=> s0 le_eps; rewrite ltnS; apply: sub_find => k; apply: le_trans.
by apply: ler_wpmul2r => //; apply: sumr_ge0.
Qed.

End Leading.

(* ---- Untied cuts --------------------------------------------------------- *)

(* For a matrix whose cut is not tied, s_K > c >= s_(K+1), the leading left and the leading
   right singular vectors project alike: P_1 X = X P_2. *)
Lemma untied_projectors (R : realFieldType) m N (X : 'M[R]_(m, N)) W s V t K c :
  squared_singular_values X W s -> squared_singular_values X^T V t ->
  (forall i : 'I_m, (c < s i) = (i < K)%N) -> (forall k : 'I_N, (c < t k) = (k < K)%N) ->
  leading_columns K W *m (leading_columns K W)^T *m X =
  X *m (leading_columns K V *m (leading_columns K V)^T).
Proof.
case=> WW diagW _ [VV diagV _] cutW cutV; rewrite trmxK in diagV.
have WWt := mulmx1C WW; have VVt := mulmx1C VV.
have [C defC] : {C | C = W^T *m X *m V} by exists (W^T *m X *m V).
have defX : X = W *m C *m V^T.
  by rewrite defC !mulmxA WWt mul1mx -mulmxA VVt mulmx1.
have eqC : diag_mx (\row_i s i) *m C = C *m diag_mx (\row_k t k).
  rewrite -diagW -diagV defC !mulmxA -(mulmxA _ W W^T) WWt mulmx1.
  by rewrite -(mulmxA _ V V^T) VVt mulmx1.
have cut : (pid_mx K : 'M_m) *m C = C *m (pid_mx K : 'M_N).
  apply/matrixP => i k.
  have st : s i * C i k = C i k * t k.
    by move/matrixP/(_ i k): eqC; rewrite mul_diag_mx mul_mx_diag !mxE.
  rewrite !mxE (bigD1 i) //= big1 ?addr0 => [|l li]; last first.
    by rewrite mxE (val_eqE i l) eq_sym (negbTE li) mul0r.
  rewrite (bigD1 k) //= big1 ?addr0 => [|l lk]; last by rewrite mxE (val_eqE l k) (negbTE lk) mulr0.
  rewrite !mxE !eqxx /= mulrC; have [->|C0] := eqVneq (C i k) 0; first by rewrite !mul0r.
  by congr (_ * _%:R); rewrite -cutW -cutV (mulIf C0 (etrans st (mulrC _ _))).
rewrite !leading_columns_projector defX !mulmxA -(mulmxA _ W^T W) WW mulmx1.
rewrite -(mulmxA _ V^T V) VV mulmx1 -(mulmxA W) cut.
by rewrite !mulmxA.
Qed.
