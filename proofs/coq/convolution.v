(* The weight gradient of a convolution: T9 (bilinear), and T12 (how often a pixel is read, how far a compressed
   input can move the gradient), with stride, dilation, unequal padding and groups.

   An axis has pixels, taps, a stride, a dilation, zeros before and after it, and positions that the kernel takes;
   position i reads, through tap u, the padded coordinate i * stride + u * dilation. A coordinate holds a pixel, or a
   zero of the padding: [padded_pixel] is an index map into [option], and [None] is padding. Everything holds for any
   number of positions; [output_length] is the one that layers use, and [output_length_largest] says that it counts
   the positions at which the kernel fits.

   Channels are numbered as in an array: channel c of group g is g * (C / groups) + c. An input is batch x channels x
   rows x columns, a weight out channels x channels of a group x taps x taps.

   Hypotheses that stand for numerical facts, and the check at run time:
   - [spectral_bound (group_matrix G g) (g2 g)]: refgrad.bounds.spectral_norms, group by group;
   - the multiplicities need none: refgrad.geometry.ConvGeometry.multiplicity counts them, [T12_multiplicity] bounds
     the count by the geometry alone. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import matrices gradients.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope nat_scope.

(* ---- Division rounded up ---- *)

Definition ceil_div (m n : nat) : nat := (m + n.-1) %/ n.

(* ceil(m / n) is the least q with m <= q n. *)
Lemma ceil_div_le m n q : 0 < n -> (ceil_div m n <= q) = (m <= q * n).
Proof.
case: n => // n _; rewrite /ceil_div -ltnS ltn_divLR //= mulSn.
by rewrite (addnC n.+1) addnS ltnS leq_add2r.
Qed.

(* ---- Channels ---- *)

Section Channels.
Variables groups size : nat.

Lemma number_proof (g : 'I_groups) (c : 'I_size) : g * size + c < groups * size.
Proof.
apply: (@leq_trans (g.+1 * size)); first by rewrite mulSn addnC ltn_add2r.
by rewrite leq_mul2r ltn_ord orbT.
Qed.

(* Channel c of group g. *)
Definition number g c : 'I_(groups * size) := Ordinal (number_proof g c).

Lemma group_proof (x : 'I_(groups * size)) : x %/ size < groups.
Proof.
have size_gt0 : 0 < size by case: size x => // x; case: x => x; rewrite muln0.
by rewrite ltn_divLR.
Qed.

Lemma member_proof (x : 'I_(groups * size)) : x %% size < size.
Proof. by rewrite ltn_mod; case: size x => // x; case: x => x; rewrite muln0. Qed.

Definition group_of x : 'I_groups := Ordinal (group_proof x).

Definition member_of x : 'I_size := Ordinal (member_proof x).

Lemma group_number g c : group_of (number g c) = g.
Proof.
apply: val_inj; rewrite /= divnMDl ?divn_small ?addn0 //.
exact: leq_ltn_trans (ltn_ord c).
Qed.

Lemma member_number g c : member_of (number g c) = c.
Proof. by apply: val_inj; rewrite /= modnMDl modn_small. Qed.

Lemma number_group_member x : number (group_of x) (member_of x) = x.
Proof. by apply: val_inj; rewrite /= -divn_eq. Qed.

End Channels.

Lemma sum_channels (V : zmodType) (groups size : nat) (F : 'I_(groups * size) -> V) :
  (\sum_x F x = \sum_g \sum_c F (number g c))%R.
Proof.
rewrite pair_big; apply: (reindex (fun gc : 'I_groups * 'I_size => number gc.1 gc.2)).
apply: onW_bij; exists (fun x => (group_of x, member_of x)) => [[g c]|x] /=.
  by rewrite group_number member_number.
exact: number_group_member.
Qed.

(* ---- One axis ---- *)

Record axis := Axis {
  pixels : nat;
  taps : nat;
  stride : nat;
  dilation : nat;
  pad_before : nat;
  positions : nat;
  stride_gt0 : 0 < stride
}.

Definition padded_pixel (a : axis) (r : nat) : option 'I_(pixels a) :=
  if pad_before a <= r then insub (r - pad_before a) else None.

Definition coordinate (a : axis) (i u : nat) : nat := i * stride a + u * dilation a.

Definition read (a : axis) (i u : nat) : option 'I_(pixels a) := padded_pixel a (coordinate a i u).

Lemma padded_pixel_eq a r (p : 'I_(pixels a)) : (padded_pixel a r == Some p) = (r == p + pad_before a).
Proof.
rewrite /padded_pixel; case: leqP => [before_r | r_before]; last first.
  by symmetry; apply/eqP => r_p; move: r_before; rewrite r_p ltnNge leq_addl.
case: insubP => [q _ q_r | outside].
  by rewrite -[LHS]/(q == p) -val_eqE q_r -(eqn_add2r (pad_before a)) subnK.
by symmetry; apply/eqP => r_p; move: outside; rewrite r_p addnK ltn_ord.
Qed.

(* H' = floor((H + before + after - d (k - 1) - 1) / s) + 1. *)
Definition output_length (size taps stride dilation before after : nat) : nat :=
  (size + before + after - (dilation * taps.-1 + 1)) %/ stride + 1.

(* These are the positions whose last tap is inside of the padded axis. *)
Lemma output_length_largest size taps stride dilation before after i : 0 < stride ->
  dilation * taps.-1 + 1 <= size + before + after ->
  (i < output_length size taps stride dilation before after)
  = (i * stride + taps.-1 * dilation < size + before + after).
Proof.
move=> stride_gt0 fits; rewrite /output_length addn1 ltnS leq_divRL //.
by rewrite -(leq_add2r (dilation * taps.-1 + 1)) subnK // addnA addn1 mulnC (mulnC dilation) (mulnC stride).
Qed.

(* How many pairs (position, tap) read a pixel. *)
Definition axis_multiplicity (a : axis) (p : 'I_(pixels a)) : nat :=
  #|[set x : 'I_(positions a) * 'I_(taps a) | read a x.1 x.2 == Some p]|.

Definition maximum_readings (a : axis) : nat :=
  ceil_div (taps a * gcdn (stride a) (dilation a)) (stride a).

Section Count.
Variable a : axis.
Let s := stride a.
Let d := dilation a.
Let g := gcdn s d.
Let q := s %/ g.

Let s_gt0 : 0 < s. Proof. exact: stride_gt0. Qed.
Let g_gt0 : 0 < g. Proof. by rewrite gcdn_gt0 s_gt0. Qed.
Let q_g : q * g = s. Proof. by rewrite divnK // dvdn_gcdl. Qed.
Let q_gt0 : 0 < q. Proof. by rewrite divn_gt0 // dvdn_leq // dvdn_gcdl. Qed.

(* The taps that read one pixel are congruent modulo s / gcd(s, d). *)
Lemma taps_congruent i u i' u' : coordinate a i u = coordinate a i' u' -> u = u' %[mod q].
Proof.
wlog u'_le : i u i' u' / u' <= u => [ordered | eq_coordinate].
  case/orP: (leq_total u' u) => [/ordered | u_le same]; first by apply.
  by symmetry; apply: (ordered _ _ _ _ u_le); symmetry; apply: same.
have coprime_qd : coprime q (d %/ g).
  rewrite /coprime -(eqn_pmul2r g_gt0) mul1n muln_gcdl q_g divnK ?dvdn_gcdr //.
apply/eqP; rewrite eqn_mod_dvd // -(Gauss_dvdl _ coprime_qd) -(dvdn_pmul2r g_gt0) q_g.
rewrite -mulnA divnK ?dvdn_gcdr // mulnBl -/d.
have -> : u * d - u' * d = i' * s - i * s.
  move: eq_coordinate; rewrite /coordinate -/s -/d => eq_coordinate.
  apply/eqP; rewrite -(eqn_add2r (u' * d)) subnK ?leq_mul2r ?u'_le ?orbT //.
  by rewrite -(eqn_add2l (i * s)) eq_coordinate addnA subnKC // -(leq_add2r (u * d)) eq_coordinate leq_add2l
    leq_mul2r u'_le orbT.
by rewrite -mulnBl dvdn_mull.
Qed.

Lemma tap_class_proof (u : 'I_(taps a)) : u %/ q < maximum_readings a.
Proof.
rewrite ltn_divLR //; apply: leq_trans (ltn_ord u) _.
by rewrite -(leq_pmul2r g_gt0) -mulnA q_g /maximum_readings -ceil_div_le.
Qed.

Theorem T12_axis_multiplicity (p : 'I_(pixels a)) : axis_multiplicity p <= maximum_readings a.
Proof.
pose class (x : 'I_(positions a) * 'I_(taps a)) := Ordinal (tap_class_proof x.2).
rewrite /axis_multiplicity -[leqRHS]card_ord -(card_in_imset (f := class)); first exact: max_card.
move=> [i u] [i' u']; rewrite !inE /read !padded_pixel_eq /= => /eqP same /eqP same' /(congr1 val) /= same_quotient.
have same_coordinate : coordinate a i u = coordinate a i' u' by rewrite same same'.
have eq_u : u = u' :> nat.
  by rewrite (divn_eq u q) (divn_eq u' q) same_quotient (taps_congruent same_coordinate).
have eq_i : i = i' :> nat.
  move/eqP: same_coordinate; rewrite /coordinate eq_u eqn_add2r eqn_mul2r.
  by rewrite -[stride a]/s (gtn_eqF s_gt0) => /eqP.
by rewrite (val_inj eq_u) (val_inj eq_i).
Qed.

(* Sharp: a pixel under position i0 on an axis that is long enough for every tap to have a position that reads it. *)
Theorem T12_axis_multiplicity_sharp (p : 'I_(pixels a)) i0 :
  p + pad_before a = i0 * s -> i0 < positions a -> (taps a).-1 * d <= i0 * s ->
  axis_multiplicity p = maximum_readings a.
Proof.
move=> under_i0 i0_inside long; apply/eqP; rewrite eqn_leq T12_axis_multiplicity /=.
have tap_proof (x : 'I_(maximum_readings a)) : x * q < taps a.
  by rewrite -(ltn_pmul2r g_gt0) -mulnA q_g ltnNge -ceil_div_le // -ltnNge.
have same_length x : x * (d %/ g) * s = x * q * d.
  by rewrite -!mulnA; congr (x * _); rewrite -[in LHS]q_g mulnCA divnK // dvdn_gcdr.
have enough x : x * q < taps a -> x * (d %/ g) <= i0.
  move=> tap; rewrite -(leq_pmul2r s_gt0) same_length; apply: leq_trans long.
  by rewrite leq_mul2r -ltnS (ltn_predK tap) tap orbT.
have position_proof (x : 'I_(maximum_readings a)) : i0 - x * (d %/ g) < positions a.
  by apply: leq_ltn_trans i0_inside; apply: leq_subr.
pose reading x := (Ordinal (position_proof x), Ordinal (tap_proof x)).
rewrite /axis_multiplicity -[leqLHS]card_ord -(card_imset _ (f := reading)); last first.
  move=> x y /(congr1 (fun z => val z.2)) /= /eqP; rewrite eqn_pmul2r // => /eqP; exact: val_inj.
apply/subset_leq_card/subsetP => _ /imsetP [x _ ->].
rewrite inE /read padded_pixel_eq under_i0 /coordinate /= -/s -/d mulnBl same_length subnK //.
by rewrite -same_length leq_mul2r enough ?orbT.
Qed.

End Count.

(* ---- Both axes ---- *)

Section Plane.
Variables h w : axis.

Definition padded_pixel2 (r q : nat) : option ('I_(pixels h) * 'I_(pixels w)) :=
  if padded_pixel h r is Some y then if padded_pixel w q is Some x then Some (y, x) else None else None.

Definition read2 (i j u v : nat) : option ('I_(pixels h) * 'I_(pixels w)) :=
  padded_pixel2 (coordinate h i u) (coordinate w j v).

Lemma padded_pixel2_eq r q y x :
  (padded_pixel2 r q == Some (y, x)) = (padded_pixel h r == Some y) && (padded_pixel w q == Some x).
Proof.
rewrite /padded_pixel2; case: (padded_pixel h r) => [y'|] //; case: (padded_pixel w q) => [x'|] //.
by rewrite andbF.
Qed.

(* m_p: how many pairs (output position, kernel tap) read pixel p. *)
Definition multiplicity (p : 'I_(pixels h) * 'I_(pixels w)) : nat :=
  #|[set x : ('I_(positions h) * 'I_(positions w)) * ('I_(taps h) * 'I_(taps w))
    | read2 x.1.1 x.1.2 x.2.1 x.2.2 == Some p]|.

Lemma multiplicity_product y x : multiplicity (y, x) = axis_multiplicity y * axis_multiplicity x.
Proof.
rewrite /axis_multiplicity -cardsX.
pose split (z : ('I_(positions h) * 'I_(positions w)) * ('I_(taps h) * 'I_(taps w))) :=
  ((z.1.1, z.2.1), (z.1.2, z.2.2)).
have split_bij : bijective split.
  by exists (fun z => ((z.1.1, z.2.1), (z.1.2, z.2.2))) => [[[i j] [u v]]|[[i u] [j v]]].
rewrite -(on_card_preimset (onW_bij _ split_bij)); apply: eq_card => z.
by rewrite !inE /read2 padded_pixel2_eq.
Qed.

Theorem T12_multiplicity p : multiplicity p <= maximum_readings h * maximum_readings w.
Proof. by case: p => y x; rewrite multiplicity_product leq_mul // T12_axis_multiplicity. Qed.

Definition maximum_multiplicity : nat := \max_p multiplicity p.

Lemma maximum_multiplicity_le : maximum_multiplicity <= maximum_readings h * maximum_readings w.
Proof. by apply/bigmax_leqP => p _; apply: T12_multiplicity. Qed.

End Plane.

(* ---- D6, the convolution ---- *)

Local Open Scope ring_scope.

Section Energies.
Variable R : realFieldType.

(* What an index map into option reads has the energy of every entry, as often as it is read. *)
Lemma energy_of_readings (P Q : finType) (f : Q -> option P) (x : P -> R) :
  energy (fun q => oapp x 0 (f q)) = \sum_p #|[set q | f q == Some p]|%:R * x p ^+ 2.
Proof.
under [RHS]eq_bigr do rewrite -sum1_card natr_sum mulr_suml.
under [RHS]eq_bigr => p _ do under eq_bigl do rewrite inE.
rewrite (exchange_big_dep xpredT) //=; apply: eq_bigr => q _.
case: (f q) => [p|] /=; last by rewrite expr0n /= big_pred0.
by rewrite (big_pred1 p) ?mul1r // => p' /=; rewrite eq_sym.
Qed.

Lemma sum_triples (I J K : finType) (F : I -> J -> K -> R) :
  \sum_(x : I * J * K) F x.1.1 x.1.2 x.2 = \sum_i \sum_j \sum_k F i j k.
Proof. by rewrite !pair_big. Qed.

Lemma sum_quadruples (I J K L : finType) (F : I -> J -> K -> L -> R) :
  \sum_(x : (I * J) * (K * L)) F x.1.1 x.1.2 x.2.1 x.2.2 = \sum_i \sum_j \sum_k \sum_l F i j k l.
Proof.
rewrite -(pair_big xpredT xpredT (fun (ij : I * J) (kl : K * L) => F ij.1 ij.2 kl.1 kl.2)) /= [RHS]pair_big.
by apply: eq_bigr => ij _; rewrite pair_big.
Qed.

(* Patches hold the readings of every sample and channel. *)
Lemma sum_triples_of_energies (N C I J K L : finType) (x : N -> C -> (I * J) * (K * L) -> R) :
  \sum_n \sum_c energy (x n c) = matrix_energy (fun (m : N * I * J) (k : C * K * L) =>
    x m.1.1 k.1.1 ((m.1.2, m.2), (k.1.2, k.2))).
Proof.
rewrite /matrix_energy (pair_big _ _ (fun (m : N * I * J) (k : C * K * L) => _ ^+ 2)) /= pair_big.
rewrite (pair_big _ _ (fun (nc : N * C) z => x nc.1 nc.2 z ^+ 2)) /=.
pose regroup (y : (N * I * J) * (C * K * L)) := ((y.1.1.1, y.2.1.1), ((y.1.1.2, y.1.2), (y.2.1.2, y.2.2))).
apply: (reindex regroup); apply: onW_bij.
exists (fun y => ((y.1.1, y.2.1.1, y.2.1.2), (y.1.2, y.2.2.1, y.2.2.2))).
  by case=> [[[n i] j] [[c k] l]].
by case=> [[n c] [[i j] [k l]]].
Qed.

Lemma sum_group (groups ins outs : nat) (o : 'I_(groups * outs)) (F : 'I_(groups * ins) -> R) :
  \sum_(l | group_of o == group_of l) F l = \sum_c F (number (group_of o) c).
Proof.
rewrite big_mkcond sum_channels (bigD1 (group_of o)) //= [X in _ + X]big1 ?addr0.
  by apply: eq_bigr => c _; rewrite group_number eqxx.
move=> g /negPf g_o; rewrite big1 // => c _.
by rewrite group_number eq_sym g_o.
Qed.

Lemma adjoint_of_weights (M K : finType) (x : K -> R) (b : R) (A : M -> K -> R) (y : M -> R) :
  \sum_m (\sum_k x k * A m k + b) * y m = \sum_k x k * (\sum_m y m * A m k) + b * \sum_m y m.
Proof.
under eq_bigr do rewrite mulrDl mulr_suml.
rewrite big_split exchange_big -mulr_sumr /=; congr (_ + _); apply: eq_bigr => k _.
rewrite mulr_sumr; apply: eq_bigr => m _; ring.
Qed.

Lemma le_bigmax (I : finType) (x : I -> R) i : x i <= \big[Num.max/0]_j x j.
Proof.
elim: (index_enum I) (mem_index_enum i) => // j s hypothesis.
rewrite inE big_cons le_maxr => /orP [/eqP -> | /hypothesis ->]; by rewrite ?lexx ?orbT.
Qed.

Lemma bigmax_ge0 (I : finType) (x : I -> R) : 0 <= \big[Num.max/0]_j x j.
Proof. by elim: (index_enum I) => [|j s bound]; rewrite ?big_nil // big_cons le_maxr bound orbT. Qed.

End Energies.

Section Convolution.
Variables (R : realFieldType) (batch : finType) (groups ins outs : nat) (h w : axis).

Definition activation : Type := batch -> 'I_(groups * ins) -> 'I_(pixels h) -> 'I_(pixels w) -> R.
Definition output : Type := batch -> 'I_(groups * outs) -> 'I_(positions h) -> 'I_(positions w) -> R.
Definition weight : Type := 'I_(groups * outs) -> 'I_ins -> 'I_(taps h) -> 'I_(taps w) -> R.
Implicit Types (A : activation) (G : output) (W : weight).

(* The input at padded coordinates, zero where there is no pixel. *)
Definition padded (X : 'I_(pixels h) -> 'I_(pixels w) -> R) (r q : nat) : R :=
  oapp (fun p => X p.1 p.2) 0 (padded_pixel2 h w r q).

(* The channel that out channel o reads as its channel c. *)
Definition channel (o : 'I_(groups * outs)) (c : 'I_ins) : 'I_(groups * ins) := number (group_of o) c.

Definition conv W (b : 'I_(groups * outs) -> R) A : output := fun n o i j =>
  \sum_c \sum_u \sum_v W o c u v * padded (A n (channel o c)) (coordinate h i u) (coordinate w j v) + b o.

Definition conv_weight_gradient A G : weight := fun o c u v =>
  \sum_n \sum_i \sum_j G n o i j * padded (A n (channel o c)) (coordinate h i u) (coordinate w j v).

Definition conv_bias_gradient G : 'I_(groups * outs) -> R := fun o => \sum_n \sum_i \sum_j G n o i j.

(* The transposed convolution of G with W: pixel (y, x) of channel c receives from every reading of it. *)
Definition conv_input_gradient W G : activation := fun n c y x =>
  \sum_(o : 'I_(groups * outs) | group_of o == group_of c)
    \sum_(i < positions h) \sum_(j < positions w) \sum_(u < taps h) \sum_(v < taps w)
    (read2 h w i j u v == Some (y, x))%:R * (G n o i j * W o (member_of c) u v).

Definition activation_energy A : R := \sum_n \sum_c \sum_y \sum_x A n c y x ^+ 2.

Definition weight_energy W : R := \sum_o \sum_c \sum_u \sum_v W o c u v ^+ 2.

Lemma eq_weight_energy W W' : (forall o c u v, W o c u v = W' o c u v) -> weight_energy W = weight_energy W'.
Proof. by move=> WW; do 4![apply: eq_bigr => ? _]; rewrite WW. Qed.

Lemma padded_linear X X' c c' r q :
  padded (fun y x => c * X y x + c' * X' y x) r q = c * padded X r q + c' * padded X' r q.
Proof. by rewrite /padded; case: padded_pixel2 => //=; rewrite !mulr0 addr0. Qed.

Lemma padded_sub X X' r q : padded (fun y x => X y x - X' y x) r q = padded X r q - padded X' r q.
Proof. by rewrite /padded; case: padded_pixel2 => //=; rewrite subr0. Qed.

Lemma padded_sum X r q :
  padded X r q = \sum_y \sum_x (padded_pixel2 h w r q == Some (y, x))%:R * X y x.
Proof.
rewrite /padded pair_big; case: padded_pixel2 => [p|] /=; last first.
  by rewrite big1 // => p _; rewrite mul0r.
rewrite (bigD1 p) //= -surjective_pairing eqxx mul1r big1 ?addr0 // => p' /negPf p'_p.
by rewrite -surjective_pairing -[Some p == _]/(p == p') eq_sym p'_p mul0r.
Qed.

(* <Y, G> = <W, dW> + <b, db>: what D6 calls dW and db is the gradient with respect to W and b. *)
Theorem D6_conv_weight_and_bias W b A G :
  \sum_n \sum_o \sum_i \sum_j conv W b A n o i j * G n o i j
  = \sum_o \sum_c \sum_u \sum_v W o c u v * conv_weight_gradient A G o c u v
    + \sum_o b o * conv_bias_gradient G o.
Proof.
rewrite exchange_big -big_split; apply: eq_bigr => o _ /=.
pose patch (m : batch * 'I_(positions h) * 'I_(positions w)) (k : 'I_ins * 'I_(taps h) * 'I_(taps w)) :=
  padded (A m.1.1 (channel o k.1.1)) (coordinate h m.1.2 k.1.2) (coordinate w m.2 k.2).
transitivity (\sum_m (\sum_k W o k.1.1 k.1.2 k.2 * patch m k + b o) * G m.1.1 o m.1.2 m.2).
  by rewrite -sum_triples; apply: eq_bigr => m _; rewrite /conv -sum_triples.
rewrite adjoint_of_weights; congr (_ + b o * _); last by rewrite /conv_bias_gradient -sum_triples.
rewrite -sum_triples; apply: eq_bigr => k _; congr (_ * _).
by rewrite /conv_weight_gradient -sum_triples.
Qed.

(* <conv(A, W), G> = <A, dA>: what D6 calls dA is the gradient with respect to A. *)
Theorem D6_conv_input W A G :
  \sum_n \sum_o \sum_i \sum_j conv W (fun=> 0) A n o i j * G n o i j
  = \sum_n \sum_c \sum_y \sum_x A n c y x * conv_input_gradient W G n c y x.
Proof.
apply: eq_bigr => n _.
pose term o c l (z : ('I_(positions h) * 'I_(positions w)) * ('I_(taps h) * 'I_(taps w))) :=
  W o c z.2.1 z.2.2 * padded (A n l) (coordinate h z.1.1 z.2.1) (coordinate w z.1.2 z.2.2) * G n o z.1.1 z.1.2.
transitivity (\sum_o \sum_c \sum_z term o c (channel o c) z).
  apply: eq_bigr => o _; rewrite pair_big /=.
  transitivity (\sum_(ij : 'I_(positions h) * 'I_(positions w)) \sum_c \sum_(uv : 'I_(taps h) * 'I_(taps w))
      term o c (channel o c) (ij, uv)).
    apply: eq_bigr => ij _; rewrite /conv addr0 mulr_suml; apply: eq_bigr => c _.
    by rewrite pair_big mulr_suml.
  rewrite exchange_big; apply: eq_bigr => c _.
  by rewrite (pair_big _ _ (fun ij uv => term o c (channel o c) (ij, uv))); apply: eq_bigr => -[].
transitivity (\sum_o \sum_(l | group_of o == group_of l) \sum_z term o (member_of l) l z).
  apply: eq_bigr => o _; rewrite sum_group; apply: eq_bigr => c _.
  by rewrite /channel member_number.
rewrite (exchange_big_dep xpredT) //=; apply: eq_bigr => l _.
rewrite [RHS]pair_big /= /conv_input_gradient.
under [RHS]eq_bigr do rewrite mulr_sumr.
rewrite [RHS]exchange_big /=; apply: eq_bigr => o _.
under [RHS]eq_bigr do rewrite -sum_quadruples mulr_sumr.
rewrite [RHS]exchange_big /=; apply: eq_bigr => z _.
rewrite /term padded_sum pair_big mulr_sumr mulr_suml; apply: eq_bigr => p _ /=.
by rewrite /read2; ring.
Qed.

(* ---- T9 ---- *)

Theorem T9_conv_linear_in_activation A A' G c c' o k u v :
  conv_weight_gradient (fun n l y x => c * A n l y x + c' * A' n l y x) G o k u v
  = c * conv_weight_gradient A G o k u v + c' * conv_weight_gradient A' G o k u v.
Proof.
rewrite /conv_weight_gradient -!sum_triples !mulr_sumr -big_split; apply: eq_bigr => x _ /=.
by rewrite padded_linear; ring.
Qed.

Theorem T9_conv_linear_in_grad_output A G G' c c' o k u v :
  conv_weight_gradient A (fun n o i j => c * G n o i j + c' * G' n o i j) o k u v
  = c * conv_weight_gradient A G o k u v + c' * conv_weight_gradient A G' o k u v.
Proof.
rewrite /conv_weight_gradient -!sum_triples !mulr_sumr -big_split; apply: eq_bigr => x _ /=; ring.
Qed.

(* The gradient from a stored input is off by the gradient at what storing left out. *)
Theorem T9_conv_error A stored G o k u v :
  conv_weight_gradient A G o k u v - conv_weight_gradient stored G o k u v
  = conv_weight_gradient (fun n l y x => A n l y x - stored n l y x) G o k u v.
Proof.
rewrite /conv_weight_gradient -!sum_triples -sumrB; apply: eq_bigr => x _ /=.
by rewrite padded_sub mulrBr.
Qed.

(* ---- Patches: a convolution is a linear layer, group by group ---- *)

Definition im2col A (g : 'I_groups) :
    batch * 'I_(positions h) * 'I_(positions w) -> 'I_ins * 'I_(taps h) * 'I_(taps w) -> R :=
  fun m k => padded (A m.1.1 (number g k.1.1)) (coordinate h m.1.2 k.1.2) (coordinate w m.2 k.2).

Definition group_matrix G (g : 'I_groups) : batch * 'I_(positions h) * 'I_(positions w) -> 'I_outs -> R :=
  fun m o => G m.1.1 (number g o) m.1.2 m.2.

Theorem D6_conv_im2col A G g o c u v :
  conv_weight_gradient A G (number g o) c u v
  = linear_weight_gradient (im2col A g) (group_matrix G g) o (c, u, v).
Proof.
rewrite /conv_weight_gradient -sum_triples; apply: eq_bigr => m _.
by rewrite /channel group_number.
Qed.

Lemma weight_energy_groups W :
  weight_energy W = \sum_g matrix_energy (fun (o : 'I_outs) k => W (number g o) k.1.1 k.1.2 k.2).
Proof.
rewrite /weight_energy sum_channels; apply: eq_bigr => g _; apply: eq_bigr => o _.
by rewrite -sum_triples.
Qed.

(* ---- T12 ---- *)

(* |im2col(E)|^2 = sum_p m_p E_p^2. *)
Theorem T12_energy E :
  \sum_g matrix_energy (im2col E g)
  = \sum_n \sum_c \sum_y \sum_x (multiplicity (y, x))%:R * E n c y x ^+ 2.
Proof.
pose reading n l (z : ('I_(positions h) * 'I_(positions w)) * ('I_(taps h) * 'I_(taps w))) :=
  oapp (fun p => E n l p.1 p.2) 0 (read2 h w z.1.1 z.1.2 z.2.1 z.2.2).
transitivity (\sum_g \sum_n \sum_c energy (reading n (number g c))).
  by apply: eq_bigr => g _; rewrite sum_triples_of_energies.
rewrite exchange_big; apply: eq_bigr => n _; rewrite sum_channels; apply: eq_bigr => g _; apply: eq_bigr => c _.
by rewrite energy_of_readings pair_big; apply: eq_bigr => -[y x] _.
Qed.

(* <= m |E|^2. *)
Theorem T12_energy_le E :
  \sum_g matrix_energy (im2col E g) <= (maximum_multiplicity h w)%:R * activation_energy E.
Proof.
rewrite T12_energy mulr_sumr; apply: ler_sum => n _; rewrite mulr_sumr; apply: ler_sum => c _.
rewrite mulr_sumr; apply: ler_sum => y _; rewrite mulr_sumr; apply: ler_sum => x _.
apply: ler_wpmul2r; first exact: sqr_ge0.
by rewrite ler_nat; apply: (leq_bigmax (F := @multiplicity h w)).
Qed.

Lemma activation_energy_ge0 A : 0 <= activation_energy A.
Proof. by do 4![apply: sumr_ge0 => ? _]; apply: sqr_ge0. Qed.

Section Gradient.
Variables (G : output) (g2 : 'I_groups -> R).
Hypothesis g2_bounds : forall g, spectral_bound (group_matrix G g) (g2 g).

(* |D(E, G)|^2 <= sum_g |G_g|_2^2 |im2col(E_g)|^2 <= max_g |G_g|_2^2 m |E|^2. *)
Theorem T12_bound (E : activation) :
  weight_energy (conv_weight_gradient E G) <= \sum_g g2 g * matrix_energy (im2col E g)
  <= \big[Num.max/0]_g g2 g * ((maximum_multiplicity h w)%:R * activation_energy E).
Proof.
apply/andP; split.
  rewrite weight_energy_groups; apply: ler_sum => g _.
  rewrite (@eq_matrix_energy _ _ _ _ (linear_weight_gradient (im2col E g) (group_matrix G g))).
    by apply: matrix_energy_product_left; apply/spectral_bound_transpose.
  by move=> o [[c u] v]; rewrite D6_conv_im2col.
apply: (@le_trans _ _ (\big[Num.max/0]_g g2 g * \sum_g matrix_energy (im2col E g))).
  rewrite mulr_sumr; apply: ler_sum => g _; apply: ler_wpmul2r; first exact: matrix_energy_ge0.
  exact: le_bigmax.
by apply: ler_wpmul2l; [apply: bigmax_ge0 | apply: T12_energy_le].
Qed.

Variables A stored : activation.

Let E : activation := fun n c y x => A n c y x - stored n c y x.

Definition conv_gradient_error : weight :=
  fun o c u v => conv_weight_gradient A G o c u v - conv_weight_gradient stored G o c u v.

(* |dW - dW~|^2, with E = A - A~. *)
Theorem T12_gradient :
  weight_energy conv_gradient_error <= \sum_g g2 g * matrix_energy (im2col E g)
  <= \big[Num.max/0]_g g2 g * ((maximum_multiplicity h w)%:R * activation_energy E).
Proof. by rewrite (eq_weight_energy (T9_conv_error A stored G)); apply: T12_bound. Qed.

(* The same with m from the geometry alone. *)
Theorem T12_gradient_geometry :
  weight_energy conv_gradient_error
  <= \big[Num.max/0]_g g2 g * ((maximum_readings h * maximum_readings w)%:R * activation_energy E).
Proof.
case/andP: T12_gradient => first second; apply: le_trans first (le_trans second _).
apply: ler_wpmul2l; first exact: bigmax_ge0.
apply: ler_wpmul2r; first exact: activation_energy_ge0.
by rewrite ler_nat maximum_multiplicity_le.
Qed.

End Gradient.

End Convolution.
