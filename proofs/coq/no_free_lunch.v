(* No guarantee follows from the explained variance alone: T20.

   For every eps < 1 there are an activation A (two samples, two inputs) and a gradient G of the output of
   a linear layer with dW = G^T A <> 0 and dW~ = G^T A~ = 0.  Whatever singular value decomposition of A is
   taken, D1 keeps rank 1 in either mode, the truncated SVD (D2) and HOSVD (D3) are the same A~, and no
   matrix of rank 1 is nearer to A.  So with e = dW~ - dW no delta < 1 has |e| <= delta |dW|, and no delta
   whatever has |e| <= delta |dW~|, which is what a run can measure.  For least squares with these data
   compressed gradient descent stands still for ever at any sizes of steps, away from the minimum.

   No hypothesis is left to a numerical check: the decomposition is exhibited and shown to be the only
   one up to signs. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import inner_product tensor eckart_young.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* ---- The definitions that the statement needs --------------------------- *)

Section Definitions.

Variable R : realFieldType.

Record singular_value_decomposition n (A U V : 'M[R]_n) (s : 'rV[R]_n) : Prop := SVD {
  left_orthogonal : U^T *m U = 1%:M;
  right_orthogonal : V^T *m V = 1%:M;
  svd_product : A = U *m diag_mx s *m V^T;
  singular_value_ge0 : forall i, 0 <= s 0 i;
  singular_value_falls : forall i j : 'I_n, (i <= j)%N -> s 0 j <= s 0 i
}.

(* D1, of the squares of the singular values. *)
Definition explained_variance_rank n (s : 'rV[R]_n) (eps : R) : nat :=
  explained_rank (fun i => s 0 i ^+ 2) eps.

(* D2: the k leading terms. *)
Definition truncated_svd n (U V : 'M[R]_n) (s : 'rV[R]_n) (k : nat) :=
  U *m diag_mx (\row_i (if (i < k)%N then s 0 i else 0)) *m V^T.

(* D3: A x_1 P_1 x_2 P_2, P_j the projection onto the k_j leading singular vectors. *)
Definition leading_projection n (U : 'M[R]_n) (k : nat) :=
  U *m diag_mx (\row_i (i < k)%N%:R) *m U^T.

Definition truncated_hosvd n (A U V : 'M[R]_n) (k1 k2 : nat) :=
  leading_projection U k1 *m A *m leading_projection V k2.

(* D6: the weight gradient of a linear layer. *)
Definition linear_weight_gradient m i o (A : 'M[R]_(m, i)) (G : 'M[R]_(m, o)) := G^T *m A.

End Definitions.

(* ---- Matrices of two rows and columns ----------------------------------- *)

Section TwoByTwo.

Variable R : realFieldType.
Implicit Types (A B U V : 'M[R]_2) (a d : R).

Local Notation zero := (0 : 'I_2).
Local Notation one := (1 : 'I_2).

Lemma sum2 (W : zmodType) (F : 'I_2 -> W) : \sum_i F i = F zero + F one.
Proof. by rewrite big_ord_recl big_ord1; congr (_ + F _); apply/val_inj. Qed.

Lemma forall2 (P : 'I_2 -> Prop) : P zero -> P one -> forall i, P i.
Proof.
move=> P0 P1 [[|[|//]] lt_i].
  by have -> : Ordinal lt_i = zero by apply/val_inj.
by have -> : Ordinal lt_i = one by apply/val_inj.
Qed.

Lemma mulmx2 m p (A : 'M[R]_(m, 2)) (B : 'M_(2, p)) i j :
  (A *m B) i j = A i zero * B zero j + A i one * B one j.
Proof. by rewrite mxE sum2. Qed.

Definition diag2 a d : 'M[R]_2 := diag_mx (\row_j (if j == zero then a else d)).

Lemma diag2E a d : (diag2 a d zero zero = a) * (diag2 a d zero one = 0) *
  (diag2 a d one zero = 0) * (diag2 a d one one = d).
Proof. by rewrite /diag2 !mxE /=. Qed.

Lemma eq_mx2 A B : A zero zero = B zero zero -> A zero one = B zero one ->
  A one zero = B one zero -> A one one = B one one -> A = B.
Proof. by move=> e00 e01 e10 e11; apply/matrixP; apply: forall2; apply: forall2. Qed.

Lemma diag_mx2 (s : 'rV[R]_2) : diag_mx s = diag2 (s 0 zero) (s 0 one).
Proof. by apply: eq_mx2; rewrite diag2E !mxE. Qed.

(* An orthogonal matrix of eigenvectors of diag(p, 1), p > 1, in falling order, is a choice of signs. *)
Lemma eigenvectors2 p q r V : 1 < p -> r <= q -> V^T *m V = 1%:M ->
  diag2 p 1 *m V = V *m diag2 q r ->
  [/\ V zero one = 0, V one zero = 0, V zero zero ^+ 2 = 1, q = p & r = 1].
Proof.
move=> p_gt1 rq VV eig.
have entry i j := congr1 (fun M : 'M[R]_2 => M i j) eig.
have e00 := entry zero zero; have e01 := entry zero one.
have e10 := entry one zero; have e11 := entry one one.
rewrite !mulmx2 !diag2E ?mul0r ?mulr0 ?addr0 ?add0r ?mul1r in e00 e01 e10 e11.
have unit i j := congr1 (fun M : 'M[R]_2 => M i j) VV.
have u00 := unit zero zero; have u01 := unit zero one; have u11 := unit one one.
rewrite !mulmx2 !mxE /= -?expr2 in u00 u01 u11.
have value x y z : x * z = z * y -> z != 0 -> x = y :> R.
  by move=> xy z_neq0; apply: (mulIf z_neq0); rewrite xy mulrC.
have p_neq1 : p <> 1 by move=> p1; rewrite p1 ltxx in p_gt1.
have V10 : V one zero = 0.
  apply/eqP; apply: contraT => V10_neq0.
  have q1 : 1 = q by apply: (value _ _ (V one zero)); rewrite // mul1r.
  have V00 : V zero zero = 0.
    by apply/eqP; apply: contraT => /(value _ _ _ e00); rewrite -q1.
  move: u01; rewrite V00 mul0r add0r => /eqP; rewrite mulf_eq0 (negbTE V10_neq0) /= => /eqP V11.
  move: u11; rewrite V11 expr0n addr0 => V01_sq.
  have V01_neq0 : V zero one != 0.
    by apply/eqP => V01; move/eqP: V01_sq; rewrite V01 expr0n eq_sym oner_eq0.
  by have pr := value _ _ _ e01 V01_neq0; move: rq; rewrite -pr -q1 leNgt p_gt1.
move: u00; rewrite V10 expr0n addr0 => V00_sq.
have V00_neq0 : V zero zero != 0.
  by apply/eqP => V00; move/eqP: V00_sq; rewrite V00 expr0n eq_sym oner_eq0.
have V01 : V zero one = 0.
  by move: u01; rewrite V10 mul0r addr0 => /eqP; rewrite mulf_eq0 (negbTE V00_neq0) => /eqP.
move: u11; rewrite V01 expr0n add0r => V11_sq.
have V11_neq0 : V one one != 0.
  by apply/eqP => V11; move/eqP: V11_sq; rewrite V11 expr0n eq_sym oner_eq0.
split=> //; first by rewrite (value _ _ _ e00).
by rewrite (value 1 r (V one one)) // mul1r.
Qed.

(* |v M|^2 <= |v|^2 |M|^2. *)
Lemma energy_mul2 (v : 'rV[R]_2) (M : 'M[R]_2) : energy (v *m M) <= energy v * energy M.
Proof.
have column (x y p q : R) : (x * p + y * q) ^+ 2 <= (x ^+ 2 + y ^+ 2) * (p ^+ 2 + q ^+ 2).
  by rewrite -subr_ge0; have := sqr_ge0 (x * q - y * p); congr (_ <= _); ring.
rewrite /energy !big_ord1 !sum2 !mulmx2.
have := ler_add (column (v 0 zero) (v 0 one) (M zero zero) (M one zero))
                (column (v 0 zero) (v 0 one) (M zero one) (M one one)).
by move=> /le_trans; apply; rewrite le_eqVlt; apply/orP; left; apply/eqP; ring.
Qed.

(* No matrix of rank one is nearer to diag(a, 1), 1 <= a, than 1. *)
Lemma rank1_distance a B : 1 <= a -> (\rank B <= 1)%N -> 1 <= energy (diag2 a 1 - B).
Proof.
move=> a_ge1 rank_B.
have : kermx B != 0 by rewrite -mxrank_eq0 mxrank_ker subn_eq0 -ltnNge ltnS.
case/rowV0Pn => v /sub_kermxP vB v_neq0.
have v_gt0 : 0 < energy v.
  rewrite /energy big_ord1 sum2 lt_neqAle addr_ge0 ?sqr_ge0 // andbT eq_sym.
  rewrite paddr_eq0 ?sqr_ge0 // !sqrf_eq0; apply: contra v_neq0 => /andP [/eqP v0 /eqP v1].
  by apply/eqP/rowP; apply: forall2; rewrite mxE.
rewrite -(ler_pmul2l v_gt0) mulr1; apply: le_trans (energy_mul2 v _).
rewrite mulmxBr vB subr0 /energy !big_ord1 !sum2 !mulmx2 !diag2E.
rewrite !mulr0 addr0 add0r mulr1 ler_add2r exprMn ler_pemulr ?sqr_ge0 //.
by rewrite exprn_ege1.
Qed.

End TwoByTwo.

(* ---- The example -------------------------------------------------------- *)

Section Example.

Variables (R : realFieldType) (eps : R).
Hypothesis eps_lt1 : eps < 1.

Local Notation zero := (0 : 'I_2).
Local Notation one := (1 : 'I_2).

(* The size of the sample that is fitted already. *)
Definition large : R := 1 + (1 - eps)^-1.

(* The activation: a large sample and a small one, in different directions. *)
Definition activation : 'M[R]_2 := diag2 large 1.

(* The gradient of the output: only the small sample is not fitted. *)
Definition output_gradient : 'M[R]_(2, 1) := \col_i (i == one)%:R.

Lemma large_gt1 : 1 < large.
Proof. by rewrite ltr_addl invr_gt0 subr_gt0. Qed.

Lemma large_share : eps * (large ^+ 2 + 1) <= large ^+ 2.
Proof.
have d_gt0 : 0 < 1 - eps by rewrite subr_gt0.
have large_d : large * (1 - eps) = (1 - eps) + 1 by rewrite /large mulrDl mul1r mulVf // gt_eqF.
have -> : eps * (large ^+ 2 + 1) = large ^+ 2 - (large * (large * (1 - eps)) - eps) by ring.
rewrite large_d ler_subl_addr ler_addl.
have -> : large * (1 - eps + 1) - eps = (large - 1) * (1 - eps + 1) + (1 - eps + (1 - eps)) by ring.
have large_ge1 : 0 <= large - 1 by rewrite subr_ge0 ltW ?large_gt1.
have d_ge0 := ltW d_gt0; have d1_ge0 := addr_ge0 d_ge0 ler01.
by apply: addr_ge0; [exact: mulr_ge0|exact: addr_ge0].
Qed.

Lemma activation_svd :
  singular_value_decomposition activation 1%:M 1%:M (\row_j (if j == zero then large else 1)).
Proof.
split; rewrite ?trmx1 ?mulmx1 ?mul1mx //.
- by move=> i; rewrite mxE; case: ifP => _; rewrite ?ler01 // (le_trans ler01 (ltW large_gt1)).
- apply: forall2; apply: forall2; rewrite !mxE //= => _; exact: ltW large_gt1.
Qed.

Section AnyDecomposition.

Variables (U V : 'M[R]_2) (s : 'rV[R]_2).
Hypothesis svd : singular_value_decomposition activation U V s.

Lemma diag2_mul (a b c d : R) : diag2 a b *m diag2 c d = diag2 (a * c) (b * d).
Proof. by apply: eq_mx2; rewrite mulmx2 !diag2E ?mul0r ?mulr0 ?addr0 ?add0r. Qed.

Lemma diag2_tr (a b : R) : (diag2 a b)^T = diag2 a b.
Proof. exact: tr_diag_mx. Qed.

(* Signs are all the freedom there is. *)
Lemma activation_svd_unique :
  [/\ U zero one = 0, U one zero = 0, V zero one = 0 & V one zero = 0] /\
  [/\ U zero zero ^+ 2 = 1, V zero zero ^+ 2 = 1, s 0 zero ^+ 2 = large ^+ 2, s 0 one ^+ 2 = 1
    & U zero zero * s 0 zero * V zero zero = large].
Proof.
case: svd => UU VV; rewrite diag_mx2 => A_def s_ge0 s_falls.
have large2_gt1 : 1 < large ^+ 2 by rewrite exprn_egt1 ?large_gt1.
have s_le : s 0 one ^+ 2 <= s 0 zero ^+ 2 by rewrite ler_pexpn2r ?nnegrE ?s_falls.
have gram : diag2 (large ^+ 2) 1 = activation *m activation^T.
  by rewrite diag2_tr diag2_mul mulr1 expr2.
have gram' : diag2 (large ^+ 2) 1 = activation^T *m activation.
  by rewrite diag2_tr diag2_mul mulr1 expr2.
have eig_U : diag2 (large ^+ 2) 1 *m U = U *m diag2 (s 0 zero ^+ 2) (s 0 one ^+ 2).
  rewrite gram A_def !trmx_mul trmxK diag2_tr !mulmxA -(mulmxA _ V^T V) VV mulmx1.
  by rewrite -!mulmxA UU mulmx1 diag2_mul !expr2.
have eig_V : diag2 (large ^+ 2) 1 *m V = V *m diag2 (s 0 zero ^+ 2) (s 0 one ^+ 2).
  rewrite gram' A_def !trmx_mul trmxK diag2_tr !mulmxA -(mulmxA _ U^T U) UU mulmx1.
  by rewrite -!mulmxA VV mulmx1 diag2_mul !expr2.
have [U01 U10 U00 s0 s1] := eigenvectors2 large2_gt1 s_le UU eig_U.
have [V01 V10 V00 _ _] := eigenvectors2 large2_gt1 s_le VV eig_V.
split; split=> //; have := congr1 (fun M : 'M[R]_2 => M zero zero) A_def.
rewrite /= /activation !mulmx2 !diag2E !mxE V01 U01 => ->.
by rewrite !mul0r !mulr0 !addr0.
Qed.

Lemma activation_rank : explained_variance_rank s eps = 1%N.
Proof.
have [_ [_ _ s0 s1 _]] := activation_svd_unique.
rewrite /explained_variance_rank /explained_rank /= /explains [X in _ <= X]big_mkcond !sum2 /=.
by rewrite s0 s1 addr0 large_share.
Qed.

Lemma activation_truncated : truncated_svd U V s 1 = diag2 large 0.
Proof.
have [[U01 U10 V01 V10] [_ _ _ _ A00]] := activation_svd_unique.
rewrite /truncated_svd diag_mx2 !mxE /=.
have entry := (U01, U10, V01, V10, mul0r, mulr0, addr0, A00).
by apply: eq_mx2; rewrite !mulmx2 !diag2E !mxE ?entry.
Qed.

Lemma activation_hosvd : truncated_hosvd activation U V 1 1 = diag2 large 0.
Proof.
have [[U01 U10 V01 V10] [U00 V00 _ _ _]] := activation_svd_unique.
have leading (W : 'M[R]_2) : W one zero = 0 -> W zero one = 0 -> W zero zero ^+ 2 = 1 ->
    leading_projection W 1 = diag2 1 0.
  move=> W10 W01 W00; rewrite /leading_projection diag_mx2 !mxE /=.
  have entry := (W01, W10, mul0r, mulr0, addr0, mulr1).
  by apply: eq_mx2; rewrite !mulmx2 !diag2E !mxE ?entry // -expr2.
by rewrite /truncated_hosvd !leading // !diag2_mul !mul1r mulr1 !mulr0.
Qed.

End AnyDecomposition.

Lemma best_rank1 (B : 'M[R]_2) : (\rank B <= 1)%N ->
  energy (activation - diag2 large 0) <= energy (activation - B).
Proof.
move=> /(rank1_distance (ltW large_gt1)); apply: le_trans.
rewrite le_eqVlt; apply/orP; left; apply/eqP; rewrite /energy /activation !sum2.
by rewrite !mxE /= !subrr subr0 !expr0n /= expr1n !add0r.
Qed.

Lemma rank_truncated : \rank (diag2 large 0) = 1%N.
Proof.
have -> : diag2 large 0 = large *: delta_mx zero zero.
  by apply: eq_mx2; rewrite diag2E !mxE /= ?mulr1 ?mulr0.
by rewrite mxrank_scale_nz ?mxrank_delta // gt_eqF // (lt_trans ltr01 large_gt1).
Qed.

Lemma exact_gradient : linear_weight_gradient activation output_gradient = delta_mx 0 one.
Proof.
apply/matrixP => i; rewrite (ord1 i); apply: forall2.
  by rewrite mulmx2 !diag2E !mxE /= mul0r mulr0 addr0.
by rewrite mulmx2 !diag2E !mxE /= mulr0 mulr1 add0r.
Qed.

Lemma compressed_gradient : linear_weight_gradient (diag2 large 0) output_gradient = 0.
Proof.
apply/matrixP => i; rewrite (ord1 i); apply: forall2.
  by rewrite mulmx2 !diag2E !mxE /= mul0r mulr0 addr0.
by rewrite mulmx2 !diag2E !mxE /= !mulr0 addr0.
Qed.

Lemma exact_gradient_neq0 : linear_weight_gradient activation output_gradient != 0.
Proof.
rewrite exact_gradient; apply/eqP => /matrixP /(_ 0 one); rewrite !mxE /= => /eqP.
by rewrite oner_eq0.
Qed.

End Example.

(* ---- T20 ---------------------------------------------------------------- *)

Section NoFreeLunch.

Variable R : realFieldType.

Theorem T20_no_free_lunch (eps : R) : eps < 1 ->
  exists (A : 'M[R]_2) (G : 'M[R]_(2, 1)),
    [/\ linear_weight_gradient A G != 0,
        exists U V s, singular_value_decomposition A U V s
      & forall U V s, singular_value_decomposition A U V s ->
        let k := explained_variance_rank s eps in
        let A1 := truncated_svd U V s k in
        [/\ k = 1%N,
            truncated_hosvd A U V k k = A1,
            \rank A1 = 1%N,
            forall B, (\rank B <= 1)%N -> energy (A - A1) <= energy (A - B)
          & linear_weight_gradient A1 G = 0]].
Proof.
move=> eps_lt1; exists (activation eps), (output_gradient R).
split; first exact: exact_gradient_neq0.
  by exists 1%:M, 1%:M, (\row_j (if j == 0 then large eps else 1)); exact: activation_svd.
move=> U V s svd; rewrite /= (activation_rank eps_lt1 svd) (activation_truncated eps_lt1 svd); split.
- by [].
- exact: (activation_hosvd eps_lt1 svd).
- exact: (rank_truncated eps_lt1).
- exact: (best_rank1 eps_lt1).
- exact: compressed_gradient.
Qed.

(* No relative accuracy of the gradient follows from eps: not against the exact one with a factor below
   one, not against the compressed one with any factor. *)
Theorem T20_no_relative_error (eps : R) : eps < 1 ->
  exists (A : 'M[R]_2) (G : 'M[R]_(2, 1)),
    (exists U V s, singular_value_decomposition A U V s) /\
    forall U V s, singular_value_decomposition A U V s ->
      let dW := linear_weight_gradient A G in
      let dW1 := linear_weight_gradient (truncated_svd U V s (explained_variance_rank s eps)) G in
      (forall delta, 0 <= delta < 1 -> ~ energy (dW1 - dW) <= delta ^+ 2 * energy dW) /\
      (forall delta, ~ energy (dW1 - dW) <= delta ^+ 2 * energy dW1).
Proof.
move=> eps_lt1; exists (activation eps), (output_gradient R); split.
  by exists 1%:M, 1%:M, (\row_j (if j == 0 then large eps else 1)); exact: activation_svd.
move=> U V s svd; rewrite /= (activation_rank eps_lt1 svd).
rewrite (activation_truncated eps_lt1 svd) compressed_gradient exact_gradient sub0r.
have energy0 : energy (0 : 'M[R]_(1, 2)) = 0.
  by rewrite /energy big1 // => i _; rewrite big1 // => j _; rewrite mxE expr0n.
have energy1 : energy (delta_mx 0 1 : 'M[R]_(1, 2)) = 1.
  by rewrite /energy big_ord1 sum2 !mxE /= expr0n expr1n add0r.
have energyN : energy (- delta_mx 0 1 : 'M[R]_(1, 2)) = 1.
  by rewrite -[RHS]energy1 /energy !big_ord1 !sum2 !mxE !sqrrN.
rewrite energy0 energy1 energyN; split=> delta; last by rewrite mulr0 leNgt ltr01.
by case/andP=> delta_ge0 delta_lt1; rewrite mulr1 leNgt expr_lt1 // delta_lt1.
Qed.

(* Least squares f W = 1/2 |A W^T - Y|^2 : the gradient of the output is A W^T - Y. *)
Definition residual (A : 'M[R]_2) (Y : 'M[R]_(2, 1)) (W : 'M[R]_(1, 2)) := A *m W^T - Y.
Definition half_squared_residual A Y W := energy (residual A Y W) / 2%:R.

(* The compressed run never moves, at any sizes of steps; the minimum is elsewhere. *)
Theorem T20_run_stands_still (eps : R) : eps < 1 ->
  exists (A : 'M[R]_2) (Y : 'M[R]_(2, 1)) (W0 W1 : 'M[R]_(1, 2)),
    [/\ half_squared_residual A Y W1 < half_squared_residual A Y W0,
        linear_weight_gradient A (residual A Y W0) != 0,
        exists U V s, singular_value_decomposition A U V s
      & forall U V s (eta : nat -> R) (W : nat -> 'M[R]_(1, 2)),
        singular_value_decomposition A U V s -> W 0%N = W0 ->
        let A1 := truncated_svd U V s (explained_variance_rank s eps) in
        (forall t, W t.+1 = W t - eta t *: linear_weight_gradient A1 (residual A Y (W t))) ->
        forall t, W t = W0].
Proof.
move=> eps_lt1; exists (activation eps), (- output_gradient R), 0, (- delta_mx 0 1).
have start : residual (activation eps) (- output_gradient R) 0 = output_gradient R.
  by rewrite /residual trmx0 mulmx0 sub0r opprK.
split; rewrite ?start.
- rewrite /half_squared_residual start ltr_pmul2r ?invr_gt0 ?ltr0n //.
  rewrite /energy !sum2 !big_ord1 !mxE !sum2 !diag2E !mxE /=.
  by rewrite !(mulr0, mul0r, oppr0, mulrN, mulr1, addr0, add0r, opprK, addNr, expr0n, expr1n, ltr01).
- exact: exact_gradient_neq0.
- by exists 1%:M, 1%:M, (\row_j (if j == 0 then large eps else 1)); exact: activation_svd.
move=> U V s eta W svd W0 A1 run; elim=> [|t IH] //.
by rewrite run IH start /A1 (activation_rank eps_lt1 svd) (activation_truncated eps_lt1 svd) compressed_gradient scaler0 subr0.
Qed.

End NoFreeLunch.
