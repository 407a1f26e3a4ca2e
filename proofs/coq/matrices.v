(* Matrices over arbitrary finite index sets: energies, Cauchy and Schwarz, spectral bounds, singular values.

   A matrix is a function I -> J -> R of two finite index sets, so that a row of the matrix of patches can be a
   triple (sample, row, column) without numbering the triples; [entries] takes one of MathComp's matrices to this
   form. Norms are squared: the energy of x is |x|^2. R is any ordered field, so nothing here needs a root or a
   limit.

   [spectral_bound A a2] says |A x|^2 <= a2 |x|^2 for all x: any number that is at least the squared spectral norm.
   [singular_values A s] says that A has a singular value decomposition with values s 0 >= s 1 >= ... >= 0: this
   MathComp has no spectral theorem, so where singular values occur their decomposition is a hypothesis.

   Hypotheses that stand for numerical facts, and the check at run time:
   - [spectral_bound]: refgrad.bounds.spectral_norms, an upper bound from the largest eigenvalue of a Gram matrix,
     raised by all that rounding can have taken from it (T15);
   - [singular_values]: refgrad.bounds.norms.squared_singular_values, upper bounds in the same sense; the tests
     compare with mpmath. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* ---- Vectors and matrices ---- *)

Section Definitions.
Variable R : realFieldType.

Definition energy (I : finType) (x : I -> R) : R := \sum_i x i ^+ 2.

Definition inner (I : finType) (x y : I -> R) : R := \sum_i x i * y i.

Definition matrix_energy (I J : finType) (A : I -> J -> R) : R := \sum_i \sum_j A i j ^+ 2.

Definition apply (I J : finType) (A : I -> J -> R) (x : J -> R) : I -> R := fun i => \sum_j A i j * x j.

Definition transpose (I J : finType) (A : I -> J -> R) : J -> I -> R := fun j i => A i j.

Definition product (I J K : finType) (A : I -> J -> R) (B : J -> K -> R) : I -> K -> R :=
  fun i k => \sum_j A i j * B j k.

Definition entries (m n : nat) (A : 'M[R]_(m, n)) : 'I_m -> 'I_n -> R := fun i j => A i j.

Definition identity (I : finType) : I -> I -> R := fun i j => (i == j)%:R.

Definition orthonormal_columns (I J : finType) (A : I -> J -> R) : Prop :=
  product (transpose A) A =2 @identity J.

Definition spectral_bound (I J : finType) (A : I -> J -> R) (a2 : R) : Prop :=
  0 <= a2 /\ forall x, energy (apply A x) <= a2 * energy x.

End Definitions.

(* ---- Energies ---- *)

Section Energies.
Variable R : realFieldType.
Implicit Types I J K L : finType.

Lemma energy_ge0 I (x : I -> R) : 0 <= energy x.
Proof. by apply: sumr_ge0 => i _; apply: sqr_ge0. Qed.

Lemma eq_energy I (x y : I -> R) : x =1 y -> energy x = energy y.
Proof. by move=> xy; apply: eq_bigr => i _; rewrite xy. Qed.

Lemma energy_scale I c (x : I -> R) : energy (fun i => c * x i) = c ^+ 2 * energy x.
Proof. by rewrite /energy mulr_sumr; apply: eq_bigr => i _; rewrite exprMn. Qed.

Lemma eq_matrix_energy I J (A B : I -> J -> R) : A =2 B -> matrix_energy A = matrix_energy B.
Proof. by move=> AB; apply: eq_bigr => i _; apply: eq_bigr => j _; rewrite AB. Qed.

Lemma matrix_energy_ge0 I J (A : I -> J -> R) : 0 <= matrix_energy A.
Proof. by apply: sumr_ge0 => i _; apply: energy_ge0. Qed.

Lemma matrix_energy_transpose I J (A : I -> J -> R) : matrix_energy (transpose A) = matrix_energy A.
Proof. exact: exchange_big. Qed.

Lemma matrix_energy_columns I J (A : I -> J -> R) : matrix_energy A = \sum_j energy (transpose A j).
Proof. by rewrite -matrix_energy_transpose. Qed.

(* A matrix and the vector of its entries have the same energy. *)
Lemma matrix_energy_vector I J (A : I -> J -> R) : matrix_energy A = energy (fun ij : I * J => A ij.1 ij.2).
Proof. by rewrite /matrix_energy pair_big. Qed.

(* The energy of one of MathComp's matrices is the trace of its Gram matrix. *)
Lemma matrix_energy_trace m n (A : 'M[R]_(m, n)) : matrix_energy (entries A) = \tr (A^T *m A).
Proof.
rewrite /mxtrace /matrix_energy exchange_big; apply: eq_bigr => j _.
by rewrite !mxE; apply: eq_bigr => i _; rewrite !mxE.
Qed.

Lemma sum_product I J (x : I -> R) (y : J -> R) :
  (\sum_i x i) * (\sum_j y j) = \sum_i \sum_j x i * y j.
Proof. by rewrite mulr_suml; apply: eq_bigr => i _; rewrite mulr_sumr. Qed.

(* Cauchy and Schwarz, from Lagrange's identity. *)
Lemma cauchy_schwarz I (x y : I -> R) : inner x y ^+ 2 <= energy x * energy y.
Proof.
have lagrange : \sum_i \sum_j (x i * y j - x j * y i) ^+ 2
    = 2%:R * (energy x * energy y - inner x y ^+ 2).
  transitivity (\sum_i \sum_j x i ^+ 2 * y j ^+ 2 + \sum_i \sum_j y i ^+ 2 * x j ^+ 2
      - 2%:R * \sum_i \sum_j (x i * y i) * (x j * y j)).
    rewrite mulr_sumr -big_split -sumrB; apply: eq_bigr => i _.
    rewrite mulr_sumr -big_split -sumrB; apply: eq_bigr => j _ /=; ring.
  by rewrite -!sum_product -!/(energy _) -!/(inner _ _); ring.
have : 0 <= \sum_i \sum_j (x i * y j - x j * y i) ^+ 2.
  by apply: sumr_ge0 => i _; apply: sumr_ge0 => j _; apply: sqr_ge0.
by rewrite lagrange pmulr_rge0 ?ltr0n // subr_ge0.
Qed.

Lemma eq_inner I (x x' y y' : I -> R) : x =1 x' -> y =1 y' -> inner x y = inner x' y'.
Proof. by move=> xx yy; apply: eq_bigr => i _; rewrite xx yy. Qed.

Lemma inner_self I (x : I -> R) : inner x x = energy x.
Proof. by apply: eq_bigr => i _; rewrite expr2. Qed.

(* The transpose is the adjoint. *)
Lemma inner_apply I J (A : I -> J -> R) x y : inner (apply A x) y = inner x (apply (transpose A) y).
Proof.
rewrite /inner /apply.
under eq_bigr do rewrite mulr_suml.
rewrite exchange_big; apply: eq_bigr => j _; rewrite mulr_sumr.
by apply: eq_bigr => i _; rewrite /transpose; ring.
Qed.

End Energies.

(* ---- Spectral bounds ---- *)

Section SpectralBounds.
Variable R : realFieldType.
Implicit Types I J K L : finType.

(* Raising a bound, as for rounding, leaves a bound. *)
Lemma spectral_bound_le I J (A : I -> J -> R) a2 b2 : a2 <= b2 -> spectral_bound A a2 -> spectral_bound A b2.
Proof.
move=> ab [a2_ge0 bound]; split=> [|x]; first exact: le_trans ab.
by apply: le_trans (bound x) _; apply: ler_wpmul2r => //; apply: energy_ge0.
Qed.

(* A matrix and its transpose have the same spectral bounds. *)
Lemma spectral_bound_transpose_only_if I J (A : I -> J -> R) a2 :
  spectral_bound A a2 -> spectral_bound (transpose A) a2.
Proof.
case=> a2_ge0 bound; split=> // y.
set x := apply (transpose A) y.
have self : energy x = inner (apply A x) y by rewrite inner_apply -/x inner_self.
have : energy x ^+ 2 <= (a2 * energy x) * energy y.
  rewrite {1}self; apply: le_trans (cauchy_schwarz _ _) _.
  by apply: ler_wpmul2r (bound x); apply: energy_ge0.
case: (ltgtP 0 (energy x)) (energy_ge0 x) => // [x_gt0 _ | <- _ _].
  rewrite (_ : a2 * _ * _ = energy x * (a2 * energy y)); last by ring.
  by rewrite expr2 ler_pmul2l.
by apply: mulr_ge0 => //; apply: energy_ge0.
Qed.

Lemma spectral_bound_transpose I J (A : I -> J -> R) a2 :
  spectral_bound (transpose A) a2 <-> spectral_bound A a2.
Proof. by split; apply: spectral_bound_transpose_only_if. Qed.

(* The squared Frobenius norm is a spectral bound. *)
Lemma spectral_bound_frobenius I J (A : I -> J -> R) : spectral_bound A (matrix_energy A).
Proof.
split=> [|x]; first exact: matrix_energy_ge0.
by rewrite mulr_suml; apply: ler_sum => i _; apply: cauchy_schwarz.
Qed.

(* |A B|^2 <= |A|_2^2 |B|^2: column by column. *)
Lemma matrix_energy_product_left I J K (A : I -> J -> R) (B : J -> K -> R) a2 :
  spectral_bound A a2 -> matrix_energy (product A B) <= a2 * matrix_energy B.
Proof.
case=> _ bound; rewrite !matrix_energy_columns mulr_sumr.
by apply: ler_sum => k _; apply: (bound (transpose B k)).
Qed.

Lemma transpose_product I J K (A : I -> J -> R) (B : J -> K -> R) :
  transpose (product A B) =2 product (transpose B) (transpose A).
Proof. by move=> k i; apply: eq_bigr => j _; rewrite mulrC. Qed.

(* |A B|^2 <= |A|^2 |B|_2^2: the same of the transposes. *)
Lemma matrix_energy_product_right I J K (A : I -> J -> R) (B : J -> K -> R) b2 :
  spectral_bound B b2 -> matrix_energy (product A B) <= matrix_energy A * b2.
Proof.
move=> /spectral_bound_transpose bound.
rewrite -matrix_energy_transpose (eq_matrix_energy (transpose_product A B)) mulrC.
by apply: le_trans (matrix_energy_product_left _ bound) _; rewrite matrix_energy_transpose.
Qed.

End SpectralBounds.

(* ---- Orthonormal columns ---- *)

Section OrthonormalColumns.
Variable R : realFieldType.
Implicit Types I J K L : finType.

Lemma sum_identity I (i : I) (x : I -> R) : \sum_j identity R i j * x j = x i.
Proof.
rewrite (bigD1 i) //= /identity eqxx mul1r big1 ?addr0 // => j /negPf ji.
by rewrite eq_sym ji mul0r.
Qed.

Lemma sum_identity_right I (i : I) (x : I -> R) : \sum_j x j * identity R j i = x i.
Proof. by rewrite -(sum_identity i x); apply: eq_bigr => j _; rewrite mulrC /identity eq_sym. Qed.

Lemma product_assoc I J K L (A : I -> J -> R) (B : J -> K -> R) (C : K -> L -> R) :
  product (product A B) C =2 product A (product B C).
Proof.
move=> i l; rewrite /product.
under eq_bigr do rewrite mulr_suml.
under [RHS]eq_bigr do rewrite mulr_sumr.
rewrite exchange_big; apply: eq_bigr => j _; apply: eq_bigr => k _; ring.
Qed.

Lemma apply_product I J K (A : I -> J -> R) (B : J -> K -> R) x : apply (product A B) x =1 apply A (apply B x).
Proof.
move=> i; rewrite /apply /product.
under eq_bigr do rewrite mulr_suml.
under [RHS]eq_bigr do rewrite mulr_sumr.
rewrite exchange_big; apply: eq_bigr => j _; apply: eq_bigr => k _; ring.
Qed.

(* Orthonormal columns change no length. *)
Lemma energy_orthonormal I J (Q : I -> J -> R) x : orthonormal_columns Q -> energy (apply Q x) = energy x.
Proof.
move=> Q_orth; rewrite -!inner_self inner_apply; apply: eq_inner => // j.
rewrite -apply_product -[RHS](sum_identity j x); apply: eq_bigr => j' _.
by rewrite Q_orth.
Qed.

Lemma energy_column I J (Q : I -> J -> R) j : orthonormal_columns Q -> energy (fun i => Q i j) = 1.
Proof. by move=> /(_ j j); rewrite /identity eqxx -inner_self. Qed.

Lemma spectral_bound_orthonormal I J (Q : I -> J -> R) : orthonormal_columns Q -> spectral_bound Q 1.
Proof. by move=> Q_orth; split=> [|x]; rewrite ?ler01 // energy_orthonormal ?mul1r. Qed.

Lemma matrix_energy_orthonormal_left I J K (Q : I -> J -> R) (B : J -> K -> R) :
  orthonormal_columns Q -> matrix_energy (product Q B) = matrix_energy B.
Proof.
move=> Q_orth; rewrite !matrix_energy_columns; apply: eq_bigr => k _.
exact: energy_orthonormal.
Qed.

Lemma matrix_energy_orthonormal_right I J K (A : I -> J -> R) (Q : K -> J -> R) :
  orthonormal_columns Q -> matrix_energy (product A (transpose Q)) = matrix_energy A.
Proof.
move=> Q_orth; rewrite -matrix_energy_transpose (eq_matrix_energy (transpose_product _ _)).
by rewrite matrix_energy_orthonormal_left // matrix_energy_transpose.
Qed.

(* Orthonormal columns: Bessel's inequality. *)
Lemma bessel I J (Q : I -> J -> R) x : orthonormal_columns Q -> energy (apply (transpose Q) x) <= energy x.
Proof.
move=> /spectral_bound_orthonormal /spectral_bound_transpose [_ bound].
by rewrite -[leRHS]mul1r.
Qed.

End OrthonormalColumns.
