(* T21: symmetries, which are checks that need no reference value.

   For a matrix A (an unfolding, one mode against all others): scaling, an orthogonal matrix on the mode, permuted or
   duplicated samples and appended zero rows all have the form c Q A with orthonormal columns Q. What this does to a
   singular value decomposition, to the projection onto leading vectors, to the core and to the Gram matrices of the
   other modes (which are all that their factors and ranks depend on) is proved for any such Q, and then for each of
   them. For the layers: dW is linear in G, the trilinear form has one value, permuted samples leave dW as it is, a 1
   x 1 convolution is a linear layer, a grouped convolution is a block of convolutions.

   Hypotheses that stand for numerical facts, and the check at run time:
   - [singular_values A s], a singular value decomposition: refgrad.multilinear; the tests of T15 compare it with
     mpmath. Everything else is by definition of the matrices involved. *)

From mathcomp Require Import all_ssreflect all_algebra all_fingroup.
From mathcomp Require Import ring.
From refgrad Require Import matrices gradients singular_values convolution contraction.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* ---- Scaling ---- *)

Section Scale.
Variables (R : realFieldType) (c : R).

(* Core and reconstruction scale; the core is the case of the transposed factors. *)
Theorem T21_scale_core (I1 I2 I3 I4 : Type) (K1 K2 K3 K4 : finType) (S : K1 -> K2 -> K3 -> K4 -> R)
    (U1 : I1 -> K1 -> R) (U2 : I2 -> K2 -> R) (U3 : I3 -> K3 -> R) (U4 : I4 -> K4 -> R) n l y x :
  reconstruction (fun k1 k2 k3 k4 => c * S k1 k2 k3 k4) U1 U2 U3 U4 n l y x
  = c * reconstruction S U1 U2 U3 U4 n l y x.
Proof.
do 4![rewrite /reconstruction /mode1 /mode2 /mode3 /mode4 mulr_sumr; apply: eq_bigr => ? _;
  rewrite [RHS]mulrCA; congr (_ * _)].
Qed.

Theorem T21_scale_energy (I J : finType) (A : I -> J -> R) :
  matrix_energy (fun i j => c * A i j) = c ^+ 2 * matrix_energy A.
Proof. by rewrite /matrix_energy mulr_sumr; apply: eq_bigr => i _; apply: energy_scale. Qed.

(* D1: k values explain eps of the energy. *)
Definition explains (eps total : R) (s : nat -> R) (k : nat) : bool := eps * total <= \sum_(i < k) s i ^+ 2.

(* The same numbers of values explain eps, so the rank is the same. *)
Theorem T21_scale_rank eps total s k : c != 0 ->
  explains eps (c ^+ 2 * total) (fun i => `|c| * s i) k = explains eps total s k.
Proof.
move=> c_neq0; rewrite /explains.
have -> : \sum_(i < k) (`|c| * s i) ^+ 2 = c ^+ 2 * \sum_(i < k) s i ^+ 2.
  by rewrite mulr_sumr; apply: eq_bigr => i _; rewrite exprMn real_normK ?num_real.
by rewrite mulrCA ler_pmul2l // lt_neqAle eq_sym sqrf_eq0 c_neq0 sqr_ge0.
Qed.

Section Decomposition.
Variables (M N : finType) (A : M -> N -> R) (s : nat -> R) (svd : singular_values A s).

Let sign : R := if c < 0 then -1 else 1.
Let sign_norm : sign * `|c| = c.
Proof. by rewrite /sign; case: ltrP => [/ltr0_norm -> | /ger0_norm ->]; rewrite ?mul1r ?mulN1r ?opprK. Qed.
Let sign_square : sign * sign = 1.
Proof. by rewrite /sign; case: ltrP; rewrite ?mulrNN mulr1. Qed.

Lemma scaled_right_orthonormal : orthonormal_columns (fun n k => sign * right svd n k).
Proof.
move=> k k'; rewrite -(right_orthonormal svd k k'); apply: eq_bigr => n _.
by rewrite /transpose -[RHS]mul1r -sign_square; ring.
Qed.

Lemma scaled_values_decrease i : `|c| * s i.+1 <= `|c| * s i.
Proof. by apply: ler_wpmul2l; [apply: normr_ge0 | apply: (values_decrease svd)]. Qed.

Lemma scaled_values_end i : (terms svd <= i)%N -> `|c| * s i = 0.
Proof. by move=> /(values_end svd) ->; rewrite mulr0. Qed.

Lemma scaled_decomposition :
  (fun m n => c * A m n) =2 fun m n => \sum_k left svd m k * (`|c| * s k * (sign * right svd n k)).
Proof.
move=> m n; rewrite (decomposition svd) mulr_sumr; apply: eq_bigr => k _.
by rewrite -[in LHS]sign_norm; ring.
Qed.

(* c A has the singular values |c| s_i and the same left vectors. *)
Definition T21_scale_singular_values : singular_values (fun m n => c * A m n) (fun i => `|c| * s i) :=
  SingularValues (left_orthonormal svd) scaled_right_orthonormal scaled_values_decrease scaled_values_end
    scaled_decomposition.

Theorem T21_scale : left T21_scale_singular_values = left svd.
Proof. by []. Qed.

End Decomposition.
End Scale.

(* ---- Orthonormal columns on a mode ---- *)

Section Orthogonal.
Variables (R : realFieldType) (M M' : finType) (Q : M' -> M -> R).
Hypothesis Q_orth : orthonormal_columns Q.

Lemma product_left_congruence (I J K : finType) (A A' : I -> J -> R) (B : J -> K -> R) :
  A =2 A' -> product A B =2 product A' B.
Proof. by move=> AA' i k; apply: eq_bigr => j _; rewrite AA'. Qed.

(* (Q A)^T (Q B) = A^T B. *)
Lemma gram_orthonormal (N N' : finType) (A : M -> N -> R) (B : M -> N' -> R) :
  product (transpose (product Q A)) (product Q B) =2 product (transpose A) B.
Proof.
move=> n n'; rewrite (product_left_congruence _ (transpose_product Q A)) product_assoc.
apply: eq_bigr => m _; congr (_ * _); rewrite -product_assoc.
rewrite -[RHS](sum_identity m (fun m' => B m' n')); apply: eq_bigr => m' _.
by rewrite Q_orth.
Qed.

Lemma product_orthonormal (N : finType) (A : M -> N -> R) :
  orthonormal_columns A -> orthonormal_columns (product Q A).
Proof. by move=> A_orth n n'; rewrite gram_orthonormal A_orth. Qed.

Section Decomposition.
Variables (N : finType) (A : M -> N -> R) (s : nat -> R) (svd : singular_values A s).

Lemma orthogonal_decomposition :
  product Q A =2 fun m n => \sum_k product Q (left svd) m k * (s k * right svd n k).
Proof.
move=> m n; rewrite -[RHS]/(product (product Q (left svd)) (fun k n => s k * right svd n k) m n) product_assoc.
by apply: eq_bigr => m' _; rewrite (decomposition svd).
Qed.

(* Q A has the singular values of A and the left vectors Q U. *)
Definition T21_orthogonal_singular_values : singular_values (product Q A) s :=
  SingularValues (product_orthonormal (left_orthonormal svd)) (right_orthonormal svd) (values_decrease svd)
    (values_end svd) orthogonal_decomposition.

Theorem T21_orthogonal : left T21_orthogonal_singular_values = product Q (left svd).
Proof. by []. Qed.

End Decomposition.

Section Projection.
Variables (N K : finType) (A : M -> N -> R) (U : M -> K -> R).

(* The projection onto Q U is Q P Q^T. *)
Theorem T21_orthogonal_projection :
  product (product Q U) (transpose (product Q U))
  =2 product (product Q (product U (transpose U))) (transpose Q).
Proof.
move=> m m'; rewrite product_assoc product_assoc; apply: eq_bigr => i _; congr (_ * _).
rewrite product_assoc; apply: eq_bigr => k _; congr (_ * _).
by apply: eq_bigr => m'' _; rewrite /transpose mulrC.
Qed.

(* The core is the same. *)
Theorem T21_orthogonal_core : product (transpose (product Q U)) (product Q A) =2 product (transpose U) A.
Proof. exact: gram_orthonormal. Qed.

Theorem T21_orthogonal_energy : matrix_energy (product Q A) = matrix_energy A.
Proof. exact: matrix_energy_orthonormal_left. Qed.

(* And so is the energy that the projection leaves out. *)
Theorem T21_orthogonal_discarded :
  matrix_energy (fun m n =>
    product Q A m n - product (product Q U) (product (transpose (product Q U)) (product Q A)) m n)
  = matrix_energy (fun m n => A m n - product U (product (transpose U) A) m n).
Proof.
rewrite -[RHS](matrix_energy_orthonormal_left _ Q_orth); apply: eq_matrix_energy => m n.
rewrite product_assoc -sumrB; apply: eq_bigr => m' _; rewrite mulrBr; congr (_ - _ * _).
by apply: eq_bigr => k _; rewrite gram_orthonormal.
Qed.

End Projection.

(* The Gram matrix of another mode, whose index is k, sums over this mode, m, and all the rest, l. *)
Definition other_gram (I K L : finType) (A : I -> K * L -> R) (k k' : K) : R :=
  \sum_l \sum_i A i (k, l) * A i (k', l).

Theorem T21_orthogonal_other_modes (K L : finType) (A : M -> K * L -> R) :
  other_gram (product Q A) =2 other_gram A.
Proof.
by move=> k k'; apply: eq_bigr => l _; apply: (gram_orthonormal A A (k, l) (k', l)).
Qed.

End Orthogonal.

(* ---- Permuted samples, appended zero rows, duplicated samples ---- *)

Section Rows.
Variables (R : realFieldType) (M : finType).

Definition permutation_matrix (p : {perm M}) : M -> M -> R := fun m m' => (p m == m')%:R.

Lemma permutation_matrix_product (N : finType) p (A : M -> N -> R) :
  product (permutation_matrix p) A =2 fun m n => A (p m) n.
Proof. move=> m n; exact: (sum_identity (p m) (fun m' => A m' n)). Qed.

Theorem T21_permutation_orthogonal p : orthonormal_columns (permutation_matrix p).
Proof.
move=> m m'; rewrite /product /transpose /permutation_matrix.
rewrite (reindex_inj (@perm_inj _ p^-1)) -[RHS](sum_identity_right m' (fun i => identity R m i)).
by apply: eq_bigr => i _; rewrite permKV /identity eq_sym.
Qed.

Definition appended_zeros (M' : finType) : M + M' -> M -> R :=
  fun i m' => if i is inl m then (m == m')%:R else 0.

Lemma appended_zeros_product (M' N : finType) (A : M -> N -> R) :
  product (@appended_zeros M') A =2 fun i n => if i is inl m then A m n else 0.
Proof.
case=> [m | m'] n; first exact: (sum_identity m (fun m' => A m' n)).
by rewrite /product big1 // => m _; rewrite mul0r.
Qed.

Lemma sum_inl_inr (M' : finType) (F : M + M' -> R) : \sum_i F i = \sum_m F (inl m) + \sum_m' F (inr m').
Proof. by rewrite big_sumType. Qed.

Theorem T21_zero_rows_orthogonal (M' : finType) : orthonormal_columns (@appended_zeros M').
Proof.
move=> m m'; rewrite /product sum_inl_inr [X in _ + X]big1 ?addr0; last by move=> i _; rewrite mulr0.
rewrite -[RHS](sum_identity_right m' (fun i => identity R m i)).
by apply: eq_bigr => i _; rewrite /transpose /= /identity eq_sym.
Qed.

(* Appended zero rows: the energy and the Gram matrices of the other modes are the same. *)
Theorem T21_zero_rows (M' K L : finType) (A : M -> K * L -> R) :
  let A0 (i : M + M') kl := if i is inl m then A m kl else 0 in
  matrix_energy A0 = matrix_energy A /\ other_gram A0 =2 other_gram A.
Proof.
move=> A0; split=> [|k k'].
  rewrite -(T21_orthogonal_energy (T21_zero_rows_orthogonal M') A).
  by apply: eq_matrix_energy => i kl; rewrite appended_zeros_product.
rewrite -(T21_orthogonal_other_modes (T21_zero_rows_orthogonal M') A k k').
by apply: eq_bigr => l _; apply: eq_bigr => i _; rewrite !appended_zeros_product.
Qed.

(* Permuted samples: the same. *)
Theorem T21_permutation_other_modes (p : {perm M}) (K L : finType) (A : M -> K * L -> R) :
  other_gram (fun m => A (p m)) =2 other_gram A.
Proof.
move=> k k'; rewrite -(T21_orthogonal_other_modes (T21_permutation_orthogonal p) A k k').
by apply: eq_bigr => l _; apply: eq_bigr => i _; rewrite !permutation_matrix_product.
Qed.

(* Every sample twice: the Gram matrices of the other modes double, so their vectors and ranks are the same. *)
Theorem T21_duplication_other_modes (K L : finType) (A : M -> K * L -> R) k k' :
  other_gram (fun m : M + M => A (match m with inl i | inr i => i end)) k k' = 2%:R * other_gram A k k'.
Proof.
rewrite /other_gram mulr_sumr; apply: eq_bigr => l _.
by rewrite sum_inl_inr /= mulr_natl mulr2n.
Qed.

(* And so the singular values grow by the root of 2, wherever the field has one. *)
Section Duplication.
Variables (root : R) (root_square : root ^+ 2 = 2%:R).

Definition halved_copies : M + M -> M -> R := fun m m' => root^-1 * (match m with inl i | inr i => i end == m')%:R.

Lemma root_neq0 : root != 0.
Proof. by rewrite -sqrf_eq0 root_square pnatr_eq0. Qed.

Theorem T21_duplication_orthogonal : orthonormal_columns halved_copies.
Proof.
move=> m m'; rewrite /product sum_inl_inr -big_split /=.
rewrite -[RHS](sum_identity_right m' (fun i => identity R m i)); apply: eq_bigr => i _.
rewrite /transpose /halved_copies /identity (eq_sym m).
have -> : root^-1 * (i == m)%:R * (root^-1 * (i == m')%:R) + root^-1 * (i == m)%:R * (root^-1 * (i == m')%:R)
    = 2%:R / root ^+ 2 * ((i == m)%:R * (i == m')%:R) by field; exact: root_neq0.
by rewrite root_square divff ?mul1r // pnatr_eq0.
Qed.

Theorem T21_duplication (N : finType) (A : M -> N -> R) :
  (fun m : M + M => A (match m with inl i | inr i => i end))
  =2 fun m n => root * product halved_copies A m n.
Proof.
move=> m n; rewrite /product mulr_sumr; set i := match m with inl i | inr i => i end.
rewrite -[LHS](sum_identity i (fun m' => A m' n)); apply: eq_bigr => m' _.
by rewrite /halved_copies -/i /identity !mulrA divff ?root_neq0 ?mul1r.
Qed.

End Duplication.

End Rows.

(* ---- Layers ---- *)

Section Linear.
Variables (R : realFieldType) (positions inputs outputs : finType).
Implicit Types (A : positions -> inputs -> R) (G : positions -> outputs -> R) (W : outputs -> inputs -> R).

Theorem T21_linear A G G' c c' :
  linear_weight_gradient A (fun m o => c * G m o + c' * G' m o)
  =2 fun o i => c * linear_weight_gradient A G o i + c' * linear_weight_gradient A G' o i.
Proof. exact: T9_linear_in_grad_output. Qed.

Theorem T21_permutation A G (p : {perm positions}) :
  linear_weight_gradient (fun m => A (p m)) (fun m => G (p m)) =2 linear_weight_gradient A G.
Proof. by move=> o i; rewrite /linear_weight_gradient [RHS](reindex_inj (@perm_inj _ p)). Qed.

(* <A W^T, G> = <W, dW> = <A, dA>. *)
Theorem T21_trilinear W A G :
  \sum_m \sum_o linear W (fun=> 0) A m o * G m o = \sum_o \sum_i W o i * linear_weight_gradient A G o i
  /\ \sum_m \sum_o linear W (fun=> 0) A m o * G m o = \sum_m \sum_i A m i * linear_input_gradient W G m i.
Proof.
split; last exact: D6_linear_input.
by rewrite D6_linear_weight_and_bias [X in _ + X]big1 ?addr0 // => o _; rewrite mul0r.
Qed.

End Linear.

Section Convolution.
Variables (R : realFieldType) (batch : finType) (groups ins outs : nat) (h w : axis).
Implicit Types (A : activation R batch groups ins h w) (G : output R batch groups outs h w).
Implicit Types W : weight R groups ins outs h w.

Theorem T21_conv_linear A G G' c c' o k u v :
  conv_weight_gradient A (fun n o i j => c * G n o i j + c' * G' n o i j) o k u v
  = c * conv_weight_gradient A G o k u v + c' * conv_weight_gradient A G' o k u v.
Proof. exact: T9_conv_linear_in_grad_output. Qed.

Theorem T21_conv_permutation A G (p : {perm batch}) o c u v :
  conv_weight_gradient (fun n => A (p n)) (fun n => G (p n)) o c u v = conv_weight_gradient A G o c u v.
Proof. by rewrite /conv_weight_gradient [RHS](reindex_inj (@perm_inj _ p)). Qed.

(* <conv(A, W), G> = <W, dW> = <A, dA>. *)
Theorem T21_conv_trilinear W A G :
  \sum_n \sum_o \sum_i \sum_j conv W (fun=> 0) A n o i j * G n o i j
  = \sum_o \sum_c \sum_u \sum_v W o c u v * conv_weight_gradient A G o c u v
  /\ \sum_n \sum_o \sum_i \sum_j conv W (fun=> 0) A n o i j * G n o i j
  = \sum_n \sum_c \sum_y \sum_x A n c y x * conv_input_gradient W G n c y x.
Proof.
split; last exact: D6_conv_input.
by rewrite D6_conv_weight_and_bias [X in _ + X]big1 ?addr0 // => o _; rewrite mul0r.
Qed.

(* ---- A grouped convolution is a block of convolutions ---- *)

Variable g : 'I_groups.

Definition block_input A : activation R batch 1 ins h w := fun n c => A n (number g (member_of c)).
Definition block_output G : output R batch 1 outs h w := fun n o => G n (number g (member_of o)).
Definition block_weight W : weight R 1 ins outs h w := fun o => W (number g (member_of o)).

Theorem T21_groups_forward W b A n o i j :
  conv W b A n (number g o) i j
  = conv (block_weight W) (fun o => b (number g (member_of o))) (block_input A) n (number ord0 o) i j.
Proof.
rewrite /conv /block_weight /block_input /channel !member_number; congr (_ + _).
by do 3![apply: eq_bigr => ? _]; rewrite group_number member_number.
Qed.

Theorem T21_groups A G o c u v :
  conv_weight_gradient A G (number g o) c u v
  = conv_weight_gradient (block_input A) (block_output G) (number ord0 o) c u v.
Proof.
rewrite /conv_weight_gradient /block_input /block_output /channel !member_number group_number.
by do 3![apply: eq_bigr => ? _].
Qed.

Theorem T21_groups_input_gradient W G n c y x :
  conv_input_gradient W G n (number g c) y x
  = conv_input_gradient (block_weight W) (block_output G) n (number ord0 c) y x.
Proof.
rewrite /conv_input_gradient /block_weight /block_output !member_number !group_number.
under eq_bigl do rewrite eq_sym; under [RHS]eq_bigl do rewrite eq_sym.
rewrite -{1}(group_number g c) -{1}(group_number (ord0 : 'I_1) c) !sum_group !group_number.
by apply: eq_bigr => o _; rewrite !member_number.
Qed.

End Convolution.

(* ---- A 1 x 1 convolution is a linear layer ---- *)

Section Pointwise.
Variables (R : realFieldType) (batch : finType) (ins outs height width dilation_h dilation_w : nat).

(* One tap, stride 1, no padding: as many positions as pixels. *)
Definition pointwise_axis (size dilation : nat) : axis := @Axis size 1 1 dilation 0 size (ltn0Sn 0).

Let h := pointwise_axis height dilation_h.
Let w := pointwise_axis width dilation_w.

Lemma pointwise_read size dilation (i : 'I_size) (u : 'I_1) : read (pointwise_axis size dilation) i u = Some i.
Proof.
by apply/eqP; rewrite /read padded_pixel_eq /coordinate /= (ord1 u) mul0n muln1 !addn0.
Qed.

Variables (W : weight R 1 ins outs h w) (b : 'I_(1 * outs) -> R).
Variables (A : activation R batch 1 ins h w) (G : output R batch 1 outs h w).

(* The positions are the triples (sample, row, column). *)
Let linear_input (m : batch * 'I_height * 'I_width) (c : 'I_(1 * ins)) : R := A m.1.1 c m.1.2 m.2.
Let linear_output (m : batch * 'I_height * 'I_width) (o : 'I_(1 * outs)) : R := G m.1.1 o m.1.2 m.2.
Let linear_weight (o : 'I_(1 * outs)) (c : 'I_(1 * ins)) : R := W o (member_of c) ord0 ord0.

Lemma pointwise_padded (X : 'I_(pixels h) -> 'I_(pixels w) -> R) (i : 'I_height) (j : 'I_width) (u v : 'I_1) :
  padded X (coordinate h i u) (coordinate w j v) = X i j.
Proof. by rewrite /padded /padded_pixel2 -!/(read _ _ _) !pointwise_read. Qed.

Lemma read2_pointwise (i : 'I_height) (j : 'I_width) (u v : 'I_1) : read2 h w i j u v == Some (i, j).
Proof. by rewrite /read2 padded_pixel2_eq -!/(read _ _ _) !pointwise_read !eqxx. Qed.

Lemma one_group (size : nat) (c : 'I_(1 * size)) (g : 'I_1) : number g (member_of c) = c.
Proof. by rewrite -[RHS]number_group_member (ord1 g) (ord1 (group_of c)). Qed.

Theorem T21_pointwise_conv (o : 'I_(1 * outs)) (c : 'I_(1 * ins)) :
  conv_weight_gradient A G o (member_of c) ord0 ord0 = linear_weight_gradient linear_input linear_output o c.
Proof.
rewrite /conv_weight_gradient -sum_triples; apply: eq_bigr => m _.
by rewrite pointwise_padded /channel one_group.
Qed.

Theorem T21_pointwise_conv_forward n o i j :
  conv W b A n o i j = linear linear_weight b linear_input (n, i, j) o.
Proof.
rewrite /conv /linear; congr (_ + _).
rewrite sum_channels big_ord1; apply: eq_bigr => c _; rewrite !big_ord1.
by rewrite pointwise_padded /channel /linear_weight /linear_input member_number mulrC (ord1 (group_of o)).
Qed.

Theorem T21_pointwise_conv_input_gradient n c i j :
  conv_input_gradient W G n c i j = linear_input_gradient linear_weight linear_output (n, i, j) c.
Proof.
rewrite /conv_input_gradient /linear_input_gradient.
under [LHS]eq_bigl => o do rewrite (ord1 (group_of o)) (ord1 (group_of c)) eqxx.
apply: eq_bigr => o _; rewrite -[RHS]mul1r pair_big /= (bigD1 (i, j)) //= [X in _ + X]big1 ?addr0.
  by rewrite !big_ord1 (eqP (read2_pointwise _ _ _ _)) eqxx.
move=> [i' j'] /negPf neq; rewrite !big_ord1 (eqP (read2_pointwise _ _ _ _)).
by rewrite -[Some _ == Some _]/((i', j') == (i, j)) neq mul0r.
Qed.

End Pointwise.
