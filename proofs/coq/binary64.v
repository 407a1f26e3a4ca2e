(* T15 for the numbers that a computer has: IEEE 754 binary64 and binary32, round to nearest even.

   Nothing is assumed but that the result is finite: sums obey the standard model even among subnormal numbers, a
   product is off by at most half the smallest subnormal number more. The formats and their operations are Flocq's,
   over Coq's own real numbers; their axioms are the only ones. *)

From Coq Require Import ZArith Reals.
From Flocq Require Import Core Relative Plus_error BinarySingleNaN Binary Bits.
From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import Rstruct.
From mathcomp Require Import ring.
From refgrad Require Import rounding.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* What a program computes that multiplies, adds and fuses in this order. *)
Fixpoint evaluate (F I : Type) (plus mult : F -> F -> F) (fma : F -> F -> F -> F) (x y : I -> F) (t : order I) : F :=
  match t with
  | Product i => mult (x i) (y i)
  | Sum s t => plus (evaluate plus mult fma x y s) (evaluate plus mult fma x y t)
  | Fused i t => fma (x i) (y i) (evaluate plus mult fma x y t)
  end.

(* ---- Any format: a precision and the largest exponent --------------------- *)

Section Format.

Variables (prec emax : Z).
Context (prec_gt_0_ : Prec_gt_0 prec) (prec_lt_emax_ : Prec_lt_emax prec emax).

Local Notation float := (binary_float prec emax).
Local Notation emin := (SpecFloat.emin prec emax).
Local Notation real := (@B2R prec emax).
Local Notation finite := (@is_finite prec emax).

Definition roundoff : R := u_ro radix2 prec.
Definition lost : R := Rmult (Rinv (IZR 2)) (bpow radix2 emin).

(* Which NaN an operation returns: of no effect on a finite result. *)
Variables (nan2 : float -> float -> {nan : float | is_nan prec emax nan = true})
  (nan3 : float -> float -> float -> {nan : float | is_nan prec emax nan = true}).

Local Notation plus := (Bplus prec emax prec_gt_0_ prec_lt_emax_ nan2 mode_NE).
Local Notation mult := (Bmult prec emax prec_gt_0_ prec_lt_emax_ nan2 mode_NE).
Local Notation fma := (Bfma prec emax prec_gt_0_ prec_lt_emax_ nan3 mode_NE).

Lemma rounding_loses a :
  rounded_or_lost roundoff lost a (round radix2 (FLT_exp emin prec) ZnearestE a).
Proof.
have [d [e [d_le [e_le [_ ->]]]]] :=
  error_N_FLT radix2 emin prec prec_gt_0_ (fun x => negb (Z.even x)) a.
by exists d, e; split=> //; apply/RleP.
Qed.

Lemma rounding_sums a b :
  generic_format radix2 (FLT_exp emin prec) a -> generic_format radix2 (FLT_exp emin prec) b ->
  rounded roundoff (a + b) (round radix2 (FLT_exp emin prec) ZnearestE (a + b)).
Proof.
move=> Fa Fb; have [d [d_le ->]] :=
  FLT_plus_error_N_ex radix2 emin prec (fun x => negb (Z.even x)) a b Fa Fb.
exists d => //; apply/RleP; apply: Rle_trans d_le _; exact: u_rod1pu_ro_le_u_ro.
Qed.

Lemma plus_finite a b : finite (plus a b) -> finite a /\ finite b.
Proof.
rewrite /Bplus is_finite_BSN2B -!(is_finite_B2BSN prec emax).
by case: (B2BSN _ _ a) => [s|s||s m e H]; case: (B2BSN _ _ b) => [s'|s'||s' m' e' H'] //=;
  case: ifP.
Qed.

Lemma mult_finite a b : finite (mult a b) -> finite a /\ finite b.
Proof.
rewrite /Bmult is_finite_BSN2B -!(is_finite_B2BSN prec emax).
by case: (B2BSN _ _ a) => [s|s||s m e H]; case: (B2BSN _ _ b) => [s'|s'||s' m' e' H'].
Qed.

Lemma fma_finite a b c : finite (fma a b c) -> [/\ finite a, finite b & finite c].
Proof.
rewrite /Bfma is_finite_BSN2B -!(is_finite_B2BSN prec emax).
by case: (B2BSN _ _ a) => [s|s||s m e H]; case: (B2BSN _ _ b) => [s'|s'||s' m' e' H'];
  case: (B2BSN _ _ c) => [s''|s''||s'' m'' e'' H''] //=; case: ifP.
Qed.

Lemma overflow_infinite (a : float) s :
  B2FF prec emax a = binary_overflow prec emax mode_NE s -> finite a = false.
Proof. by case: a. Qed.

Lemma plus_rounded a b : finite (plus a b) -> rounded roundoff (real a + real b) (real (plus a b)).
Proof.
move=> ab_finite; have [a_finite b_finite] := plus_finite ab_finite.
have := Bplus_correct prec emax prec_gt_0_ prec_lt_emax_ nan2 mode_NE a b a_finite b_finite.
case: Rlt_bool => [[-> _]|[overflows _]]; last by rewrite (overflow_infinite overflows) in ab_finite.
by apply: rounding_sums; apply: generic_format_B2R.
Qed.

Lemma mult_rounded a b :
  finite (mult a b) -> rounded_or_lost roundoff lost (real a * real b) (real (mult a b)).
Proof.
move=> ab_finite; have := Bmult_correct prec emax prec_gt_0_ prec_lt_emax_ nan2 mode_NE a b.
case: Rlt_bool => [[-> _]|overflows]; last by rewrite (overflow_infinite overflows) in ab_finite.
exact: rounding_loses.
Qed.

Lemma fma_rounded a b c : finite (fma a b c) ->
  rounded_or_lost roundoff lost (real a * real b + real c) (real (fma a b c)).
Proof.
move=> abc_finite; have [a_finite b_finite c_finite] := fma_finite abc_finite.
have /= := Bfma_correct prec emax prec_gt_0_ prec_lt_emax_ nan3 mode_NE a b c a_finite b_finite c_finite.
case: Rlt_bool => [[-> _]|overflows]; last by rewrite (overflow_infinite overflows) in abc_finite.
exact: rounding_loses.
Qed.

Local Notation evaluate := (evaluate plus mult fma).

Lemma evaluate_computes (I : finType) (x y : I -> float) t : finite (evaluate x y t) ->
  computes roundoff (rounded_or_lost roundoff lost) (real \o x) (real \o y) t (real (evaluate x y t)).
Proof.
elim: t => [i|s IHs t IHt|i t IHt] /= z_finite.
- by apply: ComputesProduct; apply: mult_rounded.
- have [s_finite t_finite] := plus_finite z_finite.
  exact: ComputesSum (IHs s_finite) (IHt t_finite) (plus_rounded z_finite).
have [_ _ t_finite] := fma_finite z_finite.
exact: ComputesFused (IHt t_finite) (fma_rounded z_finite).
Qed.

Theorem T15_floating_point (I : finType) (x y : I -> float) t :
  perm_eq (indices t) (enum I) -> #|I|%:R * roundoff < 1 -> finite (evaluate x y t) ->
  `|real (evaluate x y t) - \sum_i real (x i) * real (y i)| <=
    gamma roundoff #|I| * (\sum_i `|real (x i)| * `|real (y i)|) +
    #|I|%:R * lost * (1 + gamma roundoff #|I|).
Proof.
move=> once nu z_finite.
have roundoff_ge0 : 0 <= roundoff by apply/RleP; apply: u_ro_pos.
have lost_ge0 : 0 <= lost.
  by apply/RleP/Rmult_le_pos; [apply/Rlt_le/Rinv_0_lt_compat/Rlt_0_2 | apply: bpow_ge_0].
exact: (T15_underflow roundoff_ge0 once lost_ge0 nu (evaluate_computes z_finite)).
Qed.

End Format.

(* ---- The two formats ------------------------------------------------------ *)

Lemma half_bpow e : Rmult (Rinv (IZR 2)) (bpow radix2 e) = bpow radix2 (e - 1).
Proof. by rewrite bpow_plus Rmult_comm. Qed.

Lemma bpow_half n : bpow radix2 (- Z.of_nat n) = 2%:R ^- n.
Proof.
have half : bpow radix2 (- 1) = 2%:R^-1 by rewrite -(RinvE (x := 2%:R)) // pnatr_eq0.
elim: n => [|n IH]; first by rewrite expr0 invr1.
rewrite Nat2Z.inj_succ Z.opp_succ bpow_plus IH half.
by rewrite -exprVn -exprVn exprS mulrC.
Qed.

Lemma roundoff64 : roundoff 53 = 2%:R ^- 53.
Proof. by rewrite /roundoff /u_ro half_bpow -bpow_half. Qed.

Lemma lost64 : lost 53 1024 = 2%:R ^- 1075.
Proof. by rewrite /lost half_bpow -bpow_half. Qed.

Lemma roundoff32 : roundoff 24 = 2%:R ^- 24.
Proof. by rewrite /roundoff /u_ro half_bpow -bpow_half. Qed.

Lemma lost32 : lost 24 128 = 2%:R ^- 150.
Proof. by rewrite /lost half_bpow -bpow_half. Qed.


Definition evaluate64 I := @evaluate binary64 I (b64_plus mode_NE) (b64_mult mode_NE) (b64_fma mode_NE).
Definition evaluate32 I := @evaluate binary32 I (b32_plus mode_NE) (b32_mult mode_NE) (b32_fma mode_NE).

Local Notation u64 := (2%:R ^- 53 : R).
Local Notation u32 := (2%:R ^- 24 : R).

Theorem T15_binary64 (I : finType) (x y : I -> binary64) t :
  perm_eq (indices t) (enum I) -> #|I|%:R * u64 < 1 -> is_finite 53 1024 (evaluate64 x y t) ->
  `|B2R 53 1024 (evaluate64 x y t) - \sum_i B2R 53 1024 (x i) * B2R 53 1024 (y i)| <=
    gamma u64 #|I| * (\sum_i `|B2R 53 1024 (x i)| * `|B2R 53 1024 (y i)|) +
    #|I|%:R * 2%:R ^- 1075 * (1 + gamma u64 #|I|).
Proof. by rewrite -roundoff64 -lost64; apply: T15_floating_point. Qed.

Theorem T15_binary32 (I : finType) (x y : I -> binary32) t :
  perm_eq (indices t) (enum I) -> #|I|%:R * u32 < 1 -> is_finite 24 128 (evaluate32 x y t) ->
  `|B2R 24 128 (evaluate32 x y t) - \sum_i B2R 24 128 (x i) * B2R 24 128 (y i)| <=
    gamma u32 #|I| * (\sum_i `|B2R 24 128 (x i)| * `|B2R 24 128 (y i)|) +
    #|I|%:R * 2%:R ^- 150 * (1 + gamma u32 #|I|).
Proof. by rewrite -roundoff32 -lost32; apply: T15_floating_point. Qed.
