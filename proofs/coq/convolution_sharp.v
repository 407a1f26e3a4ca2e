(* T12 is sharp: a kernel over a picture of one pixel, padded so that every tap reads it once.

   The patches are then the pixel times a permutation matrix, and out channels with orthonormal gradients attain the
   bound. Nothing here stands for a numerical fact; the same input is computed in
   test_T12_sharp_on_a_picture_of_one_pixel. That the count of readings is attained on any axis that is long enough
   is [T12_axis_multiplicity_sharp] in convolution.v. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import matrices gradients convolution.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

Section OnePixel.
Variables (R : realFieldType) (k : nat) (pixel : R).

(* k + 1 taps over one pixel with k zeros on either side. *)
Definition one_pixel_axis : axis := @Axis 1 k.+1 1 1 k k.+1 (ltn0Sn 0).

Let a := one_pixel_axis.

Definition one_pixel : activation R [finType of unit] 1 1 a a := fun _ _ _ _ => pixel.

Lemma one_pixel_readings : maximum_readings a = k.+1.
Proof. by rewrite /maximum_readings /ceil_div /= gcdn1 muln1 addn0 divn1. Qed.

Lemma one_pixel_padded (i j u v : 'I_k.+1) :
  @padded R a a (fun _ _ => pixel) (coordinate a i u) (coordinate a j v)
  = ((i, j) == (rev_ord u, rev_ord v))%:R * pixel.
Proof.
rewrite padded_sum !big_ord1 padded_pixel2_eq !padded_pixel_eq /coordinate /= !muln1 !add0n xpair_eqE.
have reads (x y : 'I_k.+1) : (x + y == k)%N = (x == rev_ord y).
  by rewrite -val_eqE /= subSS -(eqn_add2r y (val x)) subnK // -ltnS.
by rewrite !reads.
Qed.

(* As many out channels as taps, whose gradients are orthonormal: the bound of T12 with |G|_2 = 1 is attained. *)
Theorem T12_sharp (G : output R [finType of unit] 1 (k.+1 * k.+1) a a) :
  orthonormal_columns (group_matrix G ord0) ->
  spectral_bound (group_matrix G ord0) 1
  /\ weight_energy (conv_weight_gradient one_pixel G)
    = 1 * ((maximum_readings a * maximum_readings a)%:R * activation_energy one_pixel).
Proof.
move=> G_orth; split; first exact: spectral_bound_orthonormal.
rewrite mul1r one_pixel_readings.
have -> : activation_energy one_pixel = pixel ^+ 2.
  by rewrite /activation_energy (big_pred1 tt) ?big_ord1 //; case.
have gradient o c u v : conv_weight_gradient one_pixel G o c u v = pixel * G tt o (rev_ord u) (rev_ord v).
  rewrite /conv_weight_gradient (big_pred1 tt); last by case.
  transitivity (\sum_(ij : 'I_k.+1 * 'I_k.+1) G tt o ij.1 ij.2 * ((ij == (rev_ord u, rev_ord v))%:R * pixel)).
    rewrite pair_big; apply: eq_bigr => -[i j] _; congr (_ * _); exact: one_pixel_padded.
  rewrite (bigD1 (rev_ord u, rev_ord v)) //= eqxx mul1r mulrC big1 ?addr0 // => ij /negPf ->.
  by rewrite mul0r mulr0.
transitivity (pixel ^+ 2 * matrix_energy (group_matrix G ord0)).
  rewrite (eq_weight_energy gradient) /weight_energy sum_channels big_ord1 matrix_energy_columns mulr_sumr.
  apply: eq_bigr => o _; rewrite big_ord1 /energy /transpose /group_matrix.
  rewrite (sum_triples (fun n i j => G n (number ord0 o) i j ^+ 2)) (big_pred1 tt); last by case.
  rewrite mulr_sumr [RHS](reindex_inj rev_ord_inj); apply: eq_bigr => u _.
  rewrite mulr_sumr [RHS](reindex_inj rev_ord_inj); apply: eq_bigr => v _; exact: exprMn.
rewrite matrix_energy_columns (eq_bigr (fun=> 1)); last by move=> o _; apply: (energy_column o G_orth).
by rewrite sumr_const card_ord mulrC.
Qed.

End OnePixel.
