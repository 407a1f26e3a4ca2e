(* The weight gradient of a linear layer: T9 (bilinear) and T11 (how far a compressed input can move it).

   Y = A W^T + b with the leading axes of A and Y flattened into one set of positions: A is positions x inputs, G and
   Y are positions x outputs, W is outputs x inputs. D(A, G) = G^T A (D6). That these are the gradients of the layer
   is proved too: each is the adjoint of the forward pass in its operand.

   Hypotheses that stand for numerical facts, and the check at run time:
   - [spectral_bound G g2], |G x|^2 <= g2 |x|^2: refgrad.bounds.spectral_norms;
   - the energy of E = A - A~: refgrad.bounds.weight_gradient_bound, from the explained variance (a priori), the
     discarded energies (a posteriori) or E itself (exact). The form of T11 with all the singular values is in
     singular_values.v. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import matrices.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* ---- D6, the linear layer ---- *)

Section LinearLayer.
Variables (R : realFieldType) (positions inputs outputs : finType).
Implicit Types (A : positions -> inputs -> R) (G : positions -> outputs -> R) (W : outputs -> inputs -> R).

Definition linear W (b : outputs -> R) A : positions -> outputs -> R :=
  fun m o => \sum_i A m i * W o i + b o.

Definition linear_weight_gradient A G : outputs -> inputs -> R :=
  fun o i => \sum_m G m o * A m i.

Definition linear_bias_gradient G : outputs -> R := fun o => \sum_m G m o.

Definition linear_input_gradient W G : positions -> inputs -> R := fun m i => \sum_o G m o * W o i.

Lemma linear_weight_gradient_product A G : linear_weight_gradient A G =2 product (transpose G) A.
Proof. by []. Qed.

(* <Y, G> = <W, dW> + <b, db>: what D6 calls dW and db is the gradient with respect to W and b. *)
Theorem D6_linear_weight_and_bias W b A G :
  \sum_m \sum_o linear W b A m o * G m o
  = \sum_o \sum_i W o i * linear_weight_gradient A G o i + \sum_o b o * linear_bias_gradient G o.
Proof.
rewrite exchange_big -big_split; apply: eq_bigr => o _ /=.
under eq_bigr do rewrite mulrDl mulr_suml.
rewrite big_split exchange_big /=; congr (_ + _); last first.
  by rewrite mulr_sumr; apply: eq_bigr => m _.
apply: eq_bigr => i _; rewrite mulr_sumr; apply: eq_bigr => m _; ring.
Qed.

(* <A W^T, G> = <A, dA>: what D6 calls dA is the gradient with respect to A. *)
Theorem D6_linear_input W A G :
  \sum_m \sum_o linear W (fun=> 0) A m o * G m o = \sum_m \sum_i A m i * linear_input_gradient W G m i.
Proof.
apply: eq_bigr => m _.
under eq_bigr do rewrite /linear addr0 mulr_suml.
rewrite exchange_big; apply: eq_bigr => i _; rewrite mulr_sumr; apply: eq_bigr => o _; ring.
Qed.

(* ---- T9 ---- *)

Theorem T9_linear_in_activation A A' G c c' :
  linear_weight_gradient (fun m i => c * A m i + c' * A' m i) G
  =2 fun o i => c * linear_weight_gradient A G o i + c' * linear_weight_gradient A' G o i.
Proof.
move=> o i; rewrite /linear_weight_gradient !mulr_sumr -big_split.
by apply: eq_bigr => m _ /=; ring.
Qed.

Theorem T9_linear_in_grad_output A G G' c c' :
  linear_weight_gradient A (fun m o => c * G m o + c' * G' m o)
  =2 fun o i => c * linear_weight_gradient A G o i + c' * linear_weight_gradient A G' o i.
Proof.
move=> o i; rewrite /linear_weight_gradient !mulr_sumr -big_split.
by apply: eq_bigr => m _ /=; ring.
Qed.

(* The gradient from a stored input is off by the gradient at what storing left out. *)
Theorem T9_linear_error A stored G :
  (fun o i => linear_weight_gradient A G o i - linear_weight_gradient stored G o i)
  =2 linear_weight_gradient (fun m i => A m i - stored m i) G.
Proof.
by move=> o i; rewrite /linear_weight_gradient -sumrB; apply: eq_bigr => m _; rewrite mulrBr.
Qed.

(* ---- T11 ---- *)

(* |G^T E|^2 <= |G|_2^2 |E|^2 and <= |G|^2 |E|_2^2. *)
Theorem T11_frobenius E G g2 e2 : spectral_bound G g2 -> spectral_bound E e2 ->
  matrix_energy (linear_weight_gradient E G) <= Num.min (g2 * matrix_energy E) (matrix_energy G * e2).
Proof.
move=> /spectral_bound_transpose G_bound E_bound; rewrite le_minr matrix_energy_product_left //=.
by rewrite -(matrix_energy_transpose G) matrix_energy_product_right.
Qed.

(* The same of the error of a weight gradient. *)
Theorem T11_gradient A stored G g2 : spectral_bound G g2 ->
  matrix_energy (fun o i => linear_weight_gradient A G o i - linear_weight_gradient stored G o i)
  <= g2 * matrix_energy (fun m i => A m i - stored m i).
Proof.
move=> /spectral_bound_transpose G_bound.
by rewrite (eq_matrix_energy (T9_linear_error _ _ _)) matrix_energy_product_left.
Qed.

(* Sharp: G has orthonormal columns and they span those of E. The bound's g2 is then 1. *)
Theorem T11_sharp E G (C : outputs -> inputs -> R) : orthonormal_columns G -> E =2 product G C ->
  spectral_bound G 1 /\ matrix_energy (linear_weight_gradient E G) = 1 * matrix_energy E.
Proof.
move=> G_orth E_spanned; split; first exact: spectral_bound_orthonormal.
rewrite mul1r (eq_matrix_energy E_spanned) matrix_energy_orthonormal_left //.
apply: eq_matrix_energy => o i; rewrite -[RHS](sum_identity o (fun o' => C o' i)).
transitivity (product (product (transpose G) G) C o i).
  rewrite product_assoc; apply: eq_bigr => m _; by rewrite E_spanned.
by apply: eq_bigr => o' _; rewrite G_orth.
Qed.

End LinearLayer.

(* ---- The same in MathComp's matrices ---- *)

Section Matrices.
Variables (R : realFieldType) (M I O : nat).
Implicit Types (A E : 'M[R]_(M, I)) (G : 'M[R]_(M, O)).

Lemma linear_weight_gradient_entries A G :
  linear_weight_gradient (entries A) (entries G) =2 entries (G^T *m A).
Proof. by move=> o i; rewrite /entries !mxE; apply: eq_bigr => m _; rewrite mxE. Qed.

Theorem T9_matrices A stored G : G^T *m A - G^T *m stored = G^T *m (A - stored).
Proof. by rewrite mulmxBr. Qed.

Theorem T11_matrices E G (g2 : R) : 0 <= g2 ->
  (forall x : 'cV_O, \tr ((G *m x)^T *m (G *m x)) <= g2 * \tr (x^T *m x)) ->
  \tr ((G^T *m E)^T *m (G^T *m E)) <= g2 * \tr (E^T *m E).
Proof.
move=> g2_ge0 bound; rewrite -!matrix_energy_trace -(eq_matrix_energy (linear_weight_gradient_entries _ _)).
have column n (A : 'M[R]_(n, 1)) : matrix_energy (entries A) = energy (fun i => A i 0).
  by apply: eq_bigr => i _; rewrite big_ord1.
suff /spectral_bound_transpose G_bound : spectral_bound (entries G) g2 by apply: matrix_energy_product_left.
split=> // x; have := bound (\col_i x i); rewrite -!matrix_energy_trace !column.
by under [X in _ <= _ * X]eq_energy => i do rewrite mxE; under eq_energy => i do
  [rewrite mxE; under eq_bigr do rewrite mxE].
Qed.

End Matrices.
