(* T14: the weight gradient contracted from the factors, without rebuilding the input; and with T12 in one statement.

   A conv input is stored as A~ = S x_1 U_1 x_2 U_2 x_3 U_3 x_4 U_4. Padding A~ with zeros is appending zero rows to
   U_3 and U_4 ([pad]: coordinates of the padded axis, zero where there is no pixel). The five contractions Z1, Z2,
   Z3, Z4 and the product with U_2 give D(A~, G) exactly, for any stride, dilation, padding and groups, and for any
   matrices U_j: orthonormal columns are not needed for this.

   Hypotheses that stand for numerical facts, and the check at run time:
   - [spectral_bound (group_matrix G g) (g2 g)] in [T14_T12_grouped]: refgrad.bounds.spectral_norms. T14 itself has
     none. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import matrices gradients convolution.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* ---- Mode products of a tensor with four modes ---- *)

Section ModeProducts.
Variables (R : realFieldType) (I1 I2 I3 I4 : Type) (K : finType).

Definition mode1 (U : I1 -> K -> R) (X : K -> I2 -> I3 -> I4 -> R) : I1 -> I2 -> I3 -> I4 -> R :=
  fun a b c d => \sum_k U a k * X k b c d.

Definition mode2 (U : I2 -> K -> R) (X : I1 -> K -> I3 -> I4 -> R) : I1 -> I2 -> I3 -> I4 -> R :=
  fun a b c d => \sum_k U b k * X a k c d.

Definition mode3 (U : I3 -> K -> R) (X : I1 -> I2 -> K -> I4 -> R) : I1 -> I2 -> I3 -> I4 -> R :=
  fun a b c d => \sum_k U c k * X a b k d.

Definition mode4 (U : I4 -> K -> R) (X : I1 -> I2 -> I3 -> K -> R) : I1 -> I2 -> I3 -> I4 -> R :=
  fun a b c d => \sum_k U d k * X a b c k.

End ModeProducts.

(* A~ = S x_1 U_1 x_2 U_2 x_3 U_3 x_4 U_4. *)
Definition reconstruction (R : realFieldType) (I1 I2 I3 I4 : Type) (K1 K2 K3 K4 : finType)
    (S : K1 -> K2 -> K3 -> K4 -> R)
    (U1 : I1 -> K1 -> R) (U2 : I2 -> K2 -> R) (U3 : I3 -> K3 -> R) (U4 : I4 -> K4 -> R) :
    I1 -> I2 -> I3 -> I4 -> R :=
  mode1 U1 (mode2 U2 (mode3 U3 (mode4 U4 S))).

(* ---- Convolution ---- *)

Section Contraction.
Variables (R : realFieldType) (batch : finType) (groups ins outs : nat) (h w : axis).
Variables K1 K2 K3 K4 : finType.
Variables (S : K1 -> K2 -> K3 -> K4 -> R) (U1 : batch -> K1 -> R) (U2 : 'I_(groups * ins) -> K2 -> R).
Variables (U3 : 'I_(pixels h) -> K3 -> R) (U4 : 'I_(pixels w) -> K4 -> R).
Variable G : output R batch groups outs h w.

(* A factor with the zero rows of the padding. *)
Definition pad (a : axis) (K : finType) (U : 'I_(pixels a) -> K -> R) : nat -> K -> R :=
  fun r k => oapp (fun p => U p k) 0 (padded_pixel a r).

Definition Z1 : K1 -> 'I_(groups * outs) -> 'I_(positions h) -> 'I_(positions w) -> R :=
  mode1 (transpose U1) G.

Definition Z2 : K1 -> K2 -> nat -> K4 -> R := mode3 (pad U3) S.

Definition Z3 : K1 -> K2 -> nat -> nat -> R := mode4 (pad U4) Z2.

(* The weight gradient of the convolution of Z3 with Z1: k1 is its batch and k2 its channel. *)
Definition Z4 : 'I_(groups * outs) -> K2 -> 'I_(taps h) -> 'I_(taps w) -> R := fun o k2 u v =>
  \sum_k1 \sum_i \sum_j Z1 k1 o i j * Z3 k1 k2 (coordinate h i u) (coordinate w j v).

(* Group by group, the rows of U_2 that belong to the channels of the group. *)
Definition contraction : weight R groups ins outs h w := fun o c u v =>
  \sum_k2 U2 (channel o c) k2 * Z4 o k2 u v.

Let stored : activation R batch groups ins h w := reconstruction S U1 U2 U3 U4.

Lemma padded_reconstruction n l r q :
  padded (stored n l) r q = \sum_k1 \sum_k2 U1 n k1 * U2 l k2 * Z3 k1 k2 r q.
Proof.
rewrite /padded /padded_pixel2 /Z3 /mode4 /Z2 /mode3 /pad.
case: (padded_pixel h r) => [y|] /=; last first.
  rewrite big1 // => k1 _; rewrite big1 // => k2 _; rewrite big1 ?mulr0 // => k4 _.
  by rewrite big1 ?mulr0 // => k3 _; rewrite mul0r.
case: (padded_pixel w q) => [x|] /=; last first.
  rewrite big1 // => k1 _; rewrite big1 // => k2 _; rewrite big1 ?mulr0 // => k4 _.
  by rewrite mul0r.
rewrite /stored /reconstruction /mode1; apply: eq_bigr => k1 _.
rewrite /mode2 mulr_sumr; apply: eq_bigr => k2 _; rewrite -mulrA; congr (_ * (_ * _)).
rewrite /mode3 /mode4.
under eq_bigr do rewrite mulr_sumr.
under [RHS]eq_bigr do rewrite mulr_sumr.
rewrite exchange_big; apply: eq_bigr => k4 _; apply: eq_bigr => k3 _; ring.
Qed.

(* The contraction is the weight gradient at the reconstruction. *)
Theorem T14_contraction o c u v : contraction o c u v = conv_weight_gradient stored G o c u v.
Proof.
rewrite /contraction /Z4 /conv_weight_gradient /Z1 /mode1.
pose term n k2 k1 (ij : 'I_(positions h) * 'I_(positions w)) := G n o ij.1 ij.2 *
  (U1 n k1 * U2 (channel o c) k2 * Z3 k1 k2 (coordinate h ij.1 u) (coordinate w ij.2 v)).
transitivity (\sum_k2 \sum_k1 \sum_ij \sum_n term n k2 k1 ij).
  apply: eq_bigr => k2 _; rewrite mulr_sumr; apply: eq_bigr => k1 _.
  rewrite pair_big mulr_sumr; apply: eq_bigr => ij _ /=.
  by rewrite mulr_suml mulr_sumr; apply: eq_bigr => n _; rewrite /term /transpose; ring.
transitivity (\sum_n \sum_ij \sum_k1 \sum_k2 term n k2 k1 ij); last first.
  apply: eq_bigr => n _; rewrite [RHS]pair_big; apply: eq_bigr => ij _ /=.
  rewrite padded_reconstruction mulr_sumr; apply: eq_bigr => k1 _; rewrite mulr_sumr.
  by apply: eq_bigr.
rewrite (pair_big _ _ (fun k2 k1 => \sum_ij \sum_n term n k2 k1 ij)) /=.
rewrite (pair_big _ _ (fun n ij => \sum_k1 \sum_k2 term n k2 k1 ij)) /=.
under eq_bigr do rewrite exchange_big pair_big /=.
by rewrite exchange_big; apply: eq_bigr => x _ /=; rewrite exchange_big pair_big.
Qed.

(* ---- T14 and T12 ---- *)

Variables (A : activation R batch groups ins h w) (g2 : 'I_groups -> R).
Hypothesis g2_bounds : forall g, spectral_bound (group_matrix G g) (g2 g).

Let E : activation R batch groups ins h w := fun n c y x => A n c y x - stored n c y x.

Let contraction_error : weight R groups ins outs h w :=
  fun o c u v => conv_weight_gradient A G o c u v - contraction o c u v.

Lemma contraction_error_energy : weight_energy contraction_error = weight_energy (conv_gradient_error G A stored).
Proof. by apply: eq_weight_energy => o c u v; rewrite /contraction_error T14_contraction. Qed.

(* The contracted gradient is as near to the exact one as T12 says of the gradient at A~. *)
Theorem T14_T12_grouped :
  weight_energy contraction_error <= \sum_g g2 g * matrix_energy (im2col E g)
  <= \big[Num.max/0]_g g2 g * ((maximum_multiplicity h w)%:R * activation_energy E).
Proof. by rewrite contraction_error_energy; apply: T12_gradient. Qed.

(* The same with the multiplicity from the geometry alone. *)
Theorem T14_T12_grouped_geometry :
  weight_energy contraction_error
  <= \big[Num.max/0]_g g2 g * ((maximum_readings h * maximum_readings w)%:R * activation_energy E).
Proof. by rewrite contraction_error_energy; apply: T12_gradient_geometry. Qed.

End Contraction.

(* ---- The truncated SVD (D2) of a conv input ---- *)

(* A~[b, .] = sum_k (U_K S_K)[b, k] V_K^T[k, .]: the weight gradient of V_K^T with G x_B (U_K S_K)^T, k being the
   batch. *)
Theorem T14_svd (R : realFieldType) (batch K : finType) (groups ins outs : nat) (h w : axis)
    (US : batch -> K -> R) (Vt : activation R K groups ins h w) (G : output R batch groups outs h w) o c u v :
  conv_weight_gradient Vt (mode1 (transpose US) G) o c u v
  = conv_weight_gradient (mode1 US Vt) G o c u v.
Proof.
rewrite /conv_weight_gradient.
transitivity (\sum_k \sum_n \sum_(ij : 'I_(positions h) * 'I_(positions w))
    US n k * G n o ij.1 ij.2 * padded (Vt k (channel o c)) (coordinate h ij.1 u) (coordinate w ij.2 v)).
  apply: eq_bigr => k _; rewrite pair_big [RHS]exchange_big.
  by apply: eq_bigr => ij _; rewrite /mode1 mulr_suml.
rewrite exchange_big; apply: eq_bigr => n _; rewrite [RHS]pair_big exchange_big.
apply: eq_bigr => ij _ /=; rewrite /mode1 /padded.
case: padded_pixel2 => [p|] /=; last by rewrite mulr0 big1 // => k _; rewrite mulr0.
by rewrite mulr_sumr; apply: eq_bigr => k _; ring.
Qed.

(* ---- Linear layers ---- *)

Section Linear.
Variables (R : realFieldType) (inputs outputs K : finType).

(* A~ = V S U^T: ((G^T V) S) U^T. With two axes V is U_1; with more it is the product of the leading factors. *)
Theorem T14_linear (positions L : finType) (V : positions -> L -> R) (S : L -> K -> R) (U : inputs -> K -> R)
    (G : positions -> outputs -> R) :
  product (product (product (transpose G) V) S) (transpose U)
  =2 linear_weight_gradient (product (product V S) (transpose U)) G.
Proof.
move=> o i; rewrite linear_weight_gradient_product !product_assoc.
apply: eq_bigr => m _; congr (_ * _); rewrite -product_assoc //.
Qed.

(* Leading modes are multiplied one at a time; a mode may itself be a pair, so this serves for any number of them. *)
Theorem T14_linear_leading_modes (P1 P2 L1 L2 : finType) (U1 : P1 -> L1 -> R) (U2 : P2 -> L2 -> R)
    (G : P1 * P2 -> outputs -> R) o l :
  product (transpose G) (fun p k => U1 p.1 k.1 * U2 p.2 k.2) o l
  = \sum_p1 U1 p1 l.1 * \sum_p2 U2 p2 l.2 * G (p1, p2) o.
Proof.
under [RHS]eq_bigr do rewrite mulr_sumr.
by rewrite pair_big; apply: eq_bigr => -[p1 p2] _; rewrite /transpose /=; ring.
Qed.

End Linear.
