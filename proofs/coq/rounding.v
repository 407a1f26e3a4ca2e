(* T15: how far rounding can move a sum of products, in any order of summation.

   Assumed: the standard model, in which each operation returns its exact value
   times 1 + d with |d| <= u. binary64.v shows that binary64 obeys it. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* An order in which to sum the products x i * y i: which two partial sums are
   added, or which product is added to which partial sum by a fused
   multiply-add, that is with one rounding for both. *)
Inductive order (I : Type) :=
| Product of I
| Sum of order I & order I
| Fused of I & order I.

Fixpoint indices I (t : order I) : seq I :=
  match t with
  | Product i => [:: i]
  | Sum s t => indices s ++ indices t
  | Fused i t => i :: indices t
  end.

(* From left to right: the first product, then the others one by one. *)
Definition left_to_right I (t : order I) (s : seq I) := foldl (fun t i => Sum t (Product i)) t s.

Lemma indices_left_to_right I (t : order I) s : indices (left_to_right t s) = indices t ++ s.
Proof. by elim: s t => [|i s IH] t /=; rewrite ?cats0 // IH /= -catA. Qed.

(* An expression of sums, products and fused multiply-adds: a * b + c. *)
Inductive expression (R : Type) :=
| Value of R
| Plus of expression R & expression R
| Times of expression R & expression R
| Fma of expression R & expression R & expression R.

Section Rounding.

Variables (R : realFieldType) (u : R).

Definition gamma n : R := n%:R * u / (1 - n%:R * u).

(* z is a rounded value of a. *)
Definition rounded (a z : R) := exists2 d, `|d| <= u & z = a * (1 + d).

(* The same where less than the smallest normal number may get lost. *)
Definition rounded_or_lost lost (a z : R) :=
  exists d e, [/\ `|d| <= u, `|e| <= lost & z = a * (1 + d) + e].

Hypothesis u_ge0 : 0 <= u.

Section Powers.

Definition growth n := (1 + u) ^+ n - 1.

Lemma pow_ge1 n : 1 <= (1 + u) ^+ n.
Proof. by apply: exprn_ege1; rewrite ler_addl. Qed.

Lemma plus1_ge0 : 0 <= 1 + u.
Proof. by rewrite addr_ge0 // ler01. Qed.

Lemma pow_ge0 n : 0 <= (1 + u) ^+ n.
Proof. exact: le_trans ler01 (pow_ge1 n). Qed.

Lemma growth_ge0 n : 0 <= growth n.
Proof. by rewrite subr_ge0 pow_ge1. Qed.

Lemma pow_le m n : (m <= n)%N -> (1 + u) ^+ m <= (1 + u) ^+ n.
Proof. by move=> mn; apply: ler_weexpn2l => //; rewrite ler_addl. Qed.

Lemma u_le1 n : (0 < n)%N -> n%:R * u < 1 -> u <= 1.
Proof.
move=> n0 nu; apply: le_trans (ltW nu).
by rewrite -[X in X <= _]mul1r ler_wpmul2r // ler1n.
Qed.

Lemma bernoulli n : u <= 1 -> 1 - n%:R * u <= (1 - u) ^+ n.
Proof.
move=> u1; elim: n => [|n IH]; first by rewrite mul0r subr0 expr0.
rewrite exprS; apply: le_trans (_ : (1 - u) * (1 - n%:R * u) <= _); last first.
  by rewrite ler_wpmul2l // subr_ge0.
rewrite -subr_ge0.
have -> : (1 - u) * (1 - n%:R * u) - (1 - n.+1%:R * u) = n%:R * (u * u).
  by rewrite -addn1 natrD; ring.
by rewrite !mulr_ge0 // ler0n.
Qed.

Lemma gamma_ge0 n : n%:R * u < 1 -> 0 <= gamma n.
Proof. by move=> nu; rewrite divr_ge0 ?mulr_ge0 ?ler0n // subr_ge0 ltW. Qed.

Lemma gamma_plus1 n : n%:R * u < 1 -> 1 + gamma n = (1 - n%:R * u)^-1.
Proof.
move=> nu; have nz : 1 - n%:R * u != 0 by rewrite gt_eqF // subr_gt0.
by rewrite /gamma; field.
Qed.

Lemma pow_le_gamma n : n%:R * u < 1 -> (1 + u) ^+ n <= 1 + gamma n.
Proof.
case: n => [|n] nu; first by rewrite expr0 ler_addl gamma_ge0.
have u1 := u_le1 (ltn0Sn n) nu.
have pos : 0 < 1 - n.+1%:R * u by rewrite subr_gt0.
rewrite gamma_plus1 // -[X in _ <= X]mul1r ler_pdivl_mulr //.
apply: le_trans (_ : (1 + u) ^+ n.+1 * (1 - u) ^+ n.+1 <= _).
  by apply: ler_wpmul2l; [exact: pow_ge0 | exact: bernoulli].
rewrite -exprMn; apply: exprn_ile1.
  by apply: mulr_ge0; [exact: plus1_ge0 | rewrite subr_ge0].
have -> : (1 + u) * (1 - u) = 1 - u * u by ring.
by rewrite ler_subl_addr ler_addl mulr_ge0.
Qed.

Lemma growth_le_gamma n : n%:R * u < 1 -> growth n <= gamma n.
Proof. by move=> nu; rewrite /growth ler_subl_addl pow_le_gamma. Qed.

(* n roundings in a row, multiplications and divisions alike, are one relative
   error of at most gamma n. *)
Theorem T15_roundings_in_a_row (ds : seq (R * bool)) :
  (size ds)%:R * u < 1 -> all (fun d => `|d.1| <= u) ds ->
  `|\prod_(d <- ds) (if d.2 then 1 + d.1 else (1 + d.1)^-1) - 1| <= gamma (size ds).
Proof.
move=> nu ds_le.
have [->|ds_neq0] := eqVneq ds [::].
  by rewrite big_nil subrr normr0 /= /gamma !mul0r.
have n0 : (0 < size ds)%N by rewrite lt0n size_eq0.
have u1 : u < 1.
  rewrite (le_lt_trans _ nu) // -[X in X <= _]mul1r ler_wpmul2r //.
  by rewrite ler1n.
have v0 : 0 < 1 - u by rewrite subr_gt0.
set p := \prod_(d <- ds) _.
have /andP[low high] : (1 - u) ^+ size ds <= p <= (1 - u)^-1 ^+ size ds.
  rewrite {}/p; elim: ds ds_le {nu ds_neq0 n0} => [|[d b] ds IH] /=.
    by rewrite big_nil !expr0 lexx.
  case/andP=> d_le /IH/andP[low high]; rewrite big_cons !exprS.
  have /andP[dl dh] : - u <= d <= u by rewrite -ler_norml.
  have d0 : 0 < 1 + d.
    by apply: lt_le_trans v0 _; rewrite ler_add2l.
  have f_low : 1 - u <= if b then 1 + d else (1 + d)^-1.
    case: b; first by rewrite ler_add2l.
    rewrite -[X in _ <= X]mul1r ler_pdivl_mulr //.
    apply: le_trans (_ : (1 - u) * (1 + u) <= _).
      by apply: ler_wpmul2l; [exact: ltW | rewrite ler_add2l].
    have -> : (1 - u) * (1 + u) = 1 - u * u by ring.
    by rewrite ler_subl_addr ler_addl mulr_ge0.
  have f_high : (if b then 1 + d else (1 + d)^-1) <= (1 - u)^-1.
    case: b {f_low}; last by rewrite lef_pinv ?posrE // ler_add2l.
    rewrite -[X in _ <= X]mul1r ler_pdivl_mulr //.
    apply: le_trans (_ : (1 + u) * (1 - u) <= _).
      by apply: ler_wpmul2r; [exact: ltW | rewrite ler_add2l].
    have -> : (1 + u) * (1 - u) = 1 - u * u by ring.
    by rewrite ler_subl_addr ler_addl mulr_ge0.
  have low0 : 0 <= (1 - u) ^+ size ds by rewrite exprn_ge0 // ltW.
  have f0 := le_trans (ltW v0) f_low; have p0 := le_trans low0 low.
  by apply/andP; split; apply: ler_pmul => //; exact: ltW.
have inv_le : (1 - u)^-1 ^+ size ds <= 1 + gamma (size ds).
  rewrite gamma_plus1 // exprVn lef_pinv ?posrE ?exprn_gt0 ?subr_gt0 //.
  by rewrite bernoulli // ltW.
rewrite ler_norml; apply/andP; split; last first.
  by rewrite ler_subl_addl (le_trans high).
rewrite ler_subr_addl; apply: le_trans low; apply: le_trans (bernoulli _ (ltW u1)).
rewrite ler_add2l ler_opp2 /gamma ler_pdivl_mulr ?subr_gt0 //.
by rewrite mulrBr mulr1 ler_subl_addr ler_addl mulr_ge0 // mulr_ge0 ?ler0n.
Qed.

End Powers.

(* ---- Sums of products, in any order -------------------------------------- *)

Section Orders.

Variable I : finType.
Implicit Types (t : order I) (x y : I -> R).

(* z is one of the values that an evaluation in this order can return, where
   rounds_product a z says that an operation in which a product takes part, of
   the exact value a, can return z. *)
Inductive computes (rounds_product : R -> R -> Prop) x y : order I -> R -> Prop :=
| ComputesProduct i z : rounds_product (x i * y i) z -> computes rounds_product x y (Product i) z
| ComputesSum s t a b z :
    computes rounds_product x y s a -> computes rounds_product x y t b -> rounded (a + b) z ->
    computes rounds_product x y (Sum s t) z
| ComputesFused i t a z :
    computes rounds_product x y t a -> rounds_product (x i * y i + a) z ->
    computes rounds_product x y (Fused i t) z.

Lemma size_indices_gt0 t : (0 < size (indices t))%N.
Proof. by elim: t => //= s IHs t _; rewrite size_cat ltn_addr. Qed.

Lemma computes_mono (P Q : R -> R -> Prop) x y t z :
  (forall a b, P a b -> Q a b) -> computes P x y t z -> computes Q x y t z.
Proof.
move=> PQ; elim=> [i a /PQ|s t' a b c _ IHs _ IHt|i t' a b _ IH /PQ];
  by [exact: ComputesProduct | exact: ComputesSum IHs IHt | exact: ComputesFused IH].
Qed.

Lemma rounded_loses_nothing a z : rounded a z -> rounded_or_lost 0 a z.
Proof. by case=> d d_le ->; exists d, 0; rewrite normr0 addr0. Qed.

Section Error.

Variables (lost : R) (lost_ge0 : 0 <= lost).

(* The bound for k products whose absolute values sum to m. *)
Definition error_bound (k : nat) (m : R) := ((1 + u) ^+ k - 1) * m + k%:R * lost * (1 + u) ^+ k.

(* An operand takes part in one more operation of n operands in all. *)
Lemma error_step k n m : (k < n)%N -> 0 <= m ->
  error_bound k m * (1 + u) + u * m <= ((1 + u) ^+ n - 1) * m + k%:R * lost * (1 + u) ^+ n.
Proof.
move=> kn m0; have step := pow_le kn; rewrite exprS in step.
have {}step : 0 <= (1 + u) ^+ n - (1 + u) * (1 + u) ^+ k by rewrite subr_ge0.
rewrite -subr_ge0.
have -> : ((1 + u) ^+ n - 1) * m + k%:R * lost * (1 + u) ^+ n - (error_bound k m * (1 + u) + u * m) =
    ((1 + u) ^+ n - (1 + u) * (1 + u) ^+ k) * (m + k%:R * lost).
  by rewrite /error_bound; ring.
by rewrite mulr_ge0 // addr_ge0 // mulr_ge0 // ler0n.
Qed.

Lemma product_step n m : (0 < n)%N -> 0 <= m ->
  u * m + lost <= ((1 + u) ^+ n - 1) * m + lost * (1 + u) ^+ n.
Proof.
move=> n0 m0; have step := pow_le n0; rewrite expr1 in step.
apply: ler_add; first by rewrite ler_wpmul2r // ler_subr_addl.
by rewrite -[X in X <= _]mulr1 ler_wpmul2l // pow_ge1.
Qed.

Lemma times_rounding a d : `|d| <= u -> `|a * (1 + d)| <= `|a| * (1 + u).
Proof.
move=> d_le; rewrite normrM ler_wpmul2l // (le_trans (ler_norm_add _ _)) //.
by rewrite normr1 ler_add2l.
Qed.

Lemma order_error x y t z : computes (rounded_or_lost lost) x y t z ->
  `|z - \sum_(i <- indices t) x i * y i| <=
    error_bound (size (indices t)) (\sum_(i <- indices t) `|x i| * `|y i|).
Proof.
have term_ge0 i : 0 <= `|x i| * `|y i| by rewrite mulr_ge0.
have sum_ge0 s : 0 <= \sum_(i <- s) `|x i| * `|y i| by rewrite sumr_ge0.
have norm_sum s : `|\sum_(i <- s) x i * y i| <= \sum_(i <- s) `|x i| * `|y i|.
  by apply: le_trans (ler_norm_sum _ _ _) _; apply: ler_sum => i _; rewrite normrM.
elim=> {t z} [i z [d [e [d_le e_le ->]]]|s t a b z _ IHs _ IHt [d d_le ->]
  |i t a z _ IHt [d [e [d_le e_le ->]]]] /=.
- rewrite !big_seq1.
  have -> : x i * y i * (1 + d) + e - x i * y i = x i * y i * d + e by ring.
  apply: le_trans (ler_norm_add _ _) _.
  rewrite /error_bound mul1r; apply: le_trans (product_step (ltn0Sn 0) (term_ge0 i)).
  by rewrite !normrM [X in X + _]mulrC; apply: ler_add => //; rewrite ler_wpmul2r.
- rewrite !big_cat size_cat /=.
  set A := \sum_(i <- indices s) _; set B := \sum_(i <- indices t) _.
  set MA := \sum_(i <- indices s) _; set MB := \sum_(i <- indices t) _.
  set p := size (indices s); set q := size (indices t).
  have -> : (a + b) * (1 + d) - (A + B) =
      ((a - A) * (1 + d) + d * A) + ((b - B) * (1 + d) + d * B) by ring.
  have -> : error_bound (p + q) (MA + MB) =
      (((1 + u) ^+ (p + q) - 1) * MA + p%:R * lost * (1 + u) ^+ (p + q)) +
      (((1 + u) ^+ (p + q) - 1) * MB + q%:R * lost * (1 + u) ^+ (p + q)).
    by rewrite /error_bound natrD; ring.
  have part c C k m : `|c - C| <= error_bound k m -> `|C| <= m -> (k < p + q)%N -> 0 <= m ->
      `|(c - C) * (1 + d) + d * C| <=
        ((1 + u) ^+ (p + q) - 1) * m + k%:R * lost * (1 + u) ^+ (p + q).
    move=> c_le C_le k_lt m0; apply: le_trans (error_step k_lt m0).
    apply: le_trans (ler_norm_add _ _) _; apply: ler_add.
      by apply: le_trans (times_rounding _ d_le) _; rewrite ler_wpmul2r // plus1_ge0.
    by rewrite normrM ler_pmul // norm_sum.
  apply: le_trans (ler_norm_add _ _) _; apply: ler_add.
    apply: part IHs (norm_sum _) _ (sum_ge0 _).
    by rewrite -addn1 leq_add2l size_indices_gt0.
  apply: part IHt (norm_sum _) _ (sum_ge0 _).
  by rewrite -add1n leq_add2r size_indices_gt0.
- rewrite !big_cons.
  set A := \sum_(j <- indices t) _; set MA := \sum_(j <- indices t) _.
  set k := size (indices t).
  have -> : (x i * y i + a) * (1 + d) + e - (x i * y i + A) =
      ((a - A) * (1 + d) + d * A) + (d * (x i * y i) + e) by ring.
  have -> : error_bound k.+1 (`|x i| * `|y i| + MA) =
      (((1 + u) ^+ k.+1 - 1) * MA + k%:R * lost * (1 + u) ^+ k.+1) +
      (((1 + u) ^+ k.+1 - 1) * (`|x i| * `|y i|) + lost * (1 + u) ^+ k.+1).
    by rewrite /error_bound -addn1 natrD; ring.
  apply: le_trans (ler_norm_add _ _) _; apply: ler_add.
    apply: le_trans (error_step (ltnSn k) (sum_ge0 _)).
    apply: le_trans (ler_norm_add _ _) _; apply: ler_add.
      by apply: le_trans (times_rounding _ d_le) _; rewrite ler_wpmul2r // plus1_ge0.
    by rewrite normrM ler_pmul // norm_sum.
  apply: le_trans (product_step (ltn0Sn k) (term_ge0 i)).
  apply: le_trans (ler_norm_add _ _) _; apply: ler_add => //.
  by rewrite !normrM ler_wpmul2r.
Qed.

End Error.

Section EveryIndexOnce.

Variables (x y : I -> R) (t : order I) (z : R).
Hypothesis once : perm_eq (indices t) (enum I).

Lemma all_indices (F : I -> R) : \sum_(i <- indices t) F i = \sum_i F i.
Proof. by rewrite (perm_big _ once) big_enum. Qed.

Lemma size_all : size (indices t) = #|I|.
Proof. by rewrite (perm_size once) cardE. Qed.

(* In the standard model the error is at most (1 + u)^n - 1 of the majorant ... *)
Theorem T15_powers : computes rounded x y t z ->
  `|z - \sum_i x i * y i| <= ((1 + u) ^+ #|I| - 1) * \sum_i `|x i| * `|y i|.
Proof.
move/(computes_mono rounded_loses_nothing)/(order_error (lexx 0)).
by rewrite /error_bound !all_indices size_all mulr0 mul0r addr0.
Qed.

(* ... and that is at most gamma n of it. *)
Theorem T15_any_order : #|I|%:R * u < 1 -> computes rounded x y t z ->
  `|z - \sum_i x i * y i| <= gamma #|I| * \sum_i `|x i| * `|y i|.
Proof.
move=> nu /T15_powers; move/le_trans; apply.
rewrite ler_wpmul2r ?growth_le_gamma // sumr_ge0 // => i _.
by rewrite mulr_ge0.
Qed.

(* Where an operation with a product in it may lose up to lost to underflow. *)
Theorem T15_underflow lost : 0 <= lost -> #|I|%:R * u < 1 ->
  computes (rounded_or_lost lost) x y t z ->
  `|z - \sum_i x i * y i| <=
    gamma #|I| * (\sum_i `|x i| * `|y i|) + #|I|%:R * lost * (1 + gamma #|I|).
Proof.
move=> lost0 nu /(order_error lost0); rewrite /error_bound !all_indices size_all; move/le_trans; apply.
apply: ler_add; last by rewrite ler_wpmul2l ?pow_le_gamma // mulr_ge0 ?ler0n.
by rewrite ler_wpmul2r ?growth_le_gamma // sumr_ge0 // => i _; rewrite mulr_ge0.
Qed.

End EveryIndexOnce.

(* Two evaluations, each in an order of its own. *)
Theorem T15_two_evaluations x y s t a b : #|I|%:R * u < 1 ->
  perm_eq (indices s) (enum I) -> perm_eq (indices t) (enum I) ->
  computes rounded x y s a -> computes rounded x y t b ->
  `|a - b| <= 2%:R * gamma #|I| * \sum_i `|x i| * `|y i|.
Proof.
move=> nu s_once t_once a_of b_of; set c := \sum_i x i * y i.
have -> : a - b = (a - c) - (b - c) by ring.
apply: le_trans (ler_norm_sub _ _) _.
rewrite -mulrA [X in _ <= X]mulr_natl mulr2n.
by apply: ler_add; [exact: T15_any_order s_once nu a_of | exact: T15_any_order t_once nu b_of].
Qed.

End Orders.

(* ---- Matrix products, entry by entry ------------------------------------- *)

(* |A|, entry by entry. *)
Definition absolute m n (A : 'M[R]_(m, n)) : 'M[R]_(m, n) := map_mx (fun a => `|a|) A.

Section Matrices.

Variables (m n p : nat) (A : 'M[R]_(m, n)) (B : 'M[R]_(n, p)).
Hypothesis nu : n%:R * u < 1.

(* C is computed from A and B, each entry in an order of its own. *)
Definition computes_product (C : 'M[R]_(m, p)) := forall i k, exists2 t : order 'I_n,
  perm_eq (indices t) (enum 'I_n) & computes rounded (A i) (B^~ k) t (C i k).

Theorem T15_matrix_product C : computes_product C -> forall i k,
  `|C i k - (A *m B) i k| <= gamma n * (absolute A *m absolute B) i k.
Proof.
move=> C_of i k; have [t once of_t] := C_of i k; rewrite !mxE.
have -> : \sum_j absolute A i j * absolute B j k = \sum_j `|A i j| * `|B j k|.
  by apply: eq_bigr => j _; rewrite !mxE.
by have := T15_any_order once _ of_t; rewrite card_ord; apply.
Qed.

Theorem T15_two_matrix_products C D : computes_product C -> computes_product D -> forall i k,
  `|C i k - D i k| <= 2%:R * gamma n * (absolute A *m absolute B) i k.
Proof.
move=> C_of D_of i k; have [s s_once of_s] := C_of i k; have [t t_once of_t] := D_of i k.
rewrite mxE; have -> : \sum_j absolute A i j * absolute B j k = \sum_j `|A i j| * `|B j k|.
  by apply: eq_bigr => j _; rewrite !mxE.
by have := T15_two_evaluations _ s_once t_once of_s of_t; rewrite card_ord; apply.
Qed.

End Matrices.

(* The weight gradient dW = G^T A of a linear layer, A holding one row for each sample
   or position: patches, for a convolution. *)
Corollary T15_two_weight_gradients rows outputs inputs
    (G : 'M[R]_(rows, outputs)) (A : 'M[R]_(rows, inputs)) dW dW' :
  rows%:R * u < 1 -> computes_product G^T A dW -> computes_product G^T A dW' -> forall i k,
  `|dW i k - dW' i k| <= 2%:R * gamma rows * ((absolute G)^T *m absolute A) i k.
Proof.
move=> nu dW_of dW'_of i k; have -> : (absolute G)^T = absolute G^T by rewrite /absolute map_trmx.
exact: T15_two_matrix_products nu _ _ dW_of dW'_of i k.
Qed.

(* ---- Expressions: stages in a row ---------------------------------------- *)

Fixpoint value (e : expression R) : R :=
  match e with
  | Value a => a
  | Plus a b => value a + value b
  | Times a b => value a * value b
  | Fma a b c => value a * value b + value c
  end.

(* The same expression in absolute values. *)
Fixpoint majorant (e : expression R) : R :=
  match e with
  | Value a => `|a|
  | Plus a b => majorant a + majorant b
  | Times a b => majorant a * majorant b
  | Fma a b c => majorant a * majorant b + majorant c
  end.

(* How many roundings a term of the expanded expression goes through at most. *)
Fixpoint roundings (e : expression R) : nat :=
  match e with
  | Value _ => 0
  | Plus a b => (maxn (roundings a) (roundings b)).+1
  | Times a b => (roundings a + roundings b).+1
  | Fma a b c => (maxn (roundings a + roundings b) (roundings c)).+1
  end.

Inductive evaluates : expression R -> R -> Prop :=
| EvaluatesValue a : evaluates (Value a) a
| EvaluatesPlus e f a b z :
    evaluates e a -> evaluates f b -> rounded (a + b) z -> evaluates (Plus e f) z
| EvaluatesTimes e f a b z :
    evaluates e a -> evaluates f b -> rounded (a * b) z -> evaluates (Times e f) z
| EvaluatesFma e f g a b c z :
    evaluates e a -> evaluates f b -> evaluates g c -> rounded (a * b + c) z ->
    evaluates (Fma e f g) z.

Lemma majorant_ge0 e : 0 <= majorant e.
Proof.
by elim: e => //= [a ha b hb|a ha b hb|a ha b hb c hc]; rewrite ?addr_ge0 ?mulr_ge0.
Qed.

Lemma norm_value e : `|value e| <= majorant e.
Proof.
elim: e => //= [a ha b hb|a ha b hb|a ha b hb c hc].
- by apply: le_trans (ler_norm_add _ _) _; apply: ler_add.
- by rewrite normrM ler_pmul.
by apply: le_trans (ler_norm_add _ _) _; apply: ler_add => //; rewrite normrM ler_pmul.
Qed.

(* c of majorant m has gone through k roundings, and goes through one more. *)
Lemma round_once (c C d : R) k n (m : R) : `|c - C| <= ((1 + u) ^+ k - 1) * m -> `|C| <= m -> `|d| <= u ->
  (k < n)%N -> `|c * (1 + d) - C| <= ((1 + u) ^+ n - 1) * m.
Proof.
move=> c_le C_le d_le kn; have m0 : 0 <= m := le_trans (normr_ge0 _) C_le.
have -> : c * (1 + d) - C = (c - C) * (1 + d) + C * d by ring.
apply: le_trans (_ : ((1 + u) ^+ k.+1 - 1) * m <= _); last first.
  by rewrite ler_wpmul2r // ler_add2r pow_le.
have -> : ((1 + u) ^+ k.+1 - 1) * m = ((1 + u) ^+ k - 1) * m * (1 + u) + m * u.
  by rewrite exprS; ring.
apply: le_trans (ler_norm_add _ _) _; rewrite !normrM; apply: ler_add.
  apply: ler_pmul => //.
  by rewrite (le_trans (ler_norm_add _ _)) // normr1 ler_add2l.
by apply: ler_pmul.
Qed.

Lemma multiply_error (a A b B : R) p q (m n : R) : `|a - A| <= ((1 + u) ^+ p - 1) * m -> `|A| <= m ->
  `|b - B| <= ((1 + u) ^+ q - 1) * n -> `|B| <= n ->
  `|a * b - A * B| <= ((1 + u) ^+ (p + q) - 1) * (m * n).
Proof.
move=> a_le A_le b_le B_le; have m0 : 0 <= m := le_trans (normr_ge0 _) A_le.
have -> : a * b - A * B = (a - A) * (b - B) + (a - A) * B + A * (b - B) by ring.
have -> : ((1 + u) ^+ (p + q) - 1) * (m * n) =
    ((1 + u) ^+ p - 1) * m * (((1 + u) ^+ q - 1) * n) +
    ((1 + u) ^+ p - 1) * m * n + m * (((1 + u) ^+ q - 1) * n).
  by rewrite exprD; ring.
apply: le_trans (ler_norm_add _ _) _; rewrite normrM; apply: ler_add; last exact: ler_pmul.
by apply: le_trans (ler_norm_add _ _) _; rewrite !normrM; apply: ler_add; apply: ler_pmul.
Qed.

Lemma more_roundings (c C : R) p k (m : R) : `|c - C| <= ((1 + u) ^+ p - 1) * m -> 0 <= m -> (p <= k)%N ->
  `|c - C| <= ((1 + u) ^+ k - 1) * m.
Proof. by move=> /le_trans c_le m0 pk; apply: c_le; rewrite ler_wpmul2r // ler_add2r pow_le. Qed.

Lemma add_error (a A b B : R) k (m n : R) : `|a - A| <= ((1 + u) ^+ k - 1) * m ->
  `|b - B| <= ((1 + u) ^+ k - 1) * n -> `|(a + b) - (A + B)| <= ((1 + u) ^+ k - 1) * (m + n).
Proof.
move=> a_le b_le; have -> : (a + b) - (A + B) = (a - A) + (b - B) by ring.
by rewrite mulrDr (le_trans (ler_norm_add _ _)) // ler_add.
Qed.

Theorem T15_expression e z : (roundings e)%:R * u < 1 -> evaluates e z ->
  `|z - value e| <= gamma (roundings e) * majorant e.
Proof.
move=> nu of_z.
suff : `|z - value e| <= ((1 + u) ^+ roundings e - 1) * majorant e.
  by move/le_trans; apply; rewrite ler_wpmul2r ?growth_le_gamma // majorant_ge0.
elim: of_z {nu} => {e z} /= [a|e f a b z _ IHe _ IHf [d d_le ->]|e f a b z _ IHe _ IHf [d d_le ->]
  |e f g a b c z _ IHe _ IHf _ IHg [d d_le ->]].
- by rewrite subrr normr0 expr0 subrr mul0r.
- apply: (@round_once _ _ _ (maxn (roundings e) (roundings f))) => //.
    by apply: add_error; [apply: more_roundings IHe _ _ | apply: more_roundings IHf _ _];
      rewrite ?majorant_ge0 ?leq_maxl ?leq_maxr.
  exact: (norm_value (Plus e f)).
- apply: (@round_once _ _ _ (roundings e + roundings f)) => //.
    by apply: multiply_error => //; apply: norm_value.
  exact: (norm_value (Times e f)).
apply: (@round_once _ _ _ (maxn (roundings e + roundings f) (roundings g))) => //.
  apply: add_error; last by apply: more_roundings IHg _ _; rewrite ?majorant_ge0 ?leq_maxr.
  apply: (@more_roundings _ _ (roundings e + roundings f)); rewrite ?leq_maxl ?mulr_ge0 ?majorant_ge0 //.
  by apply: multiply_error => //; apply: norm_value.
exact: (norm_value (Fma e f g)).
Qed.

(* An inner product of expressions, in an order. *)
Fixpoint inner (I : Type) (x y : I -> expression R) (t : order I) : expression R :=
  match t with
  | Product i => Times (x i) (y i)
  | Sum s t => Plus (inner x y s) (inner x y t)
  | Fused i t => Fma (x i) (y i) (inner x y t)
  end.

Section Stage.

Variables (I : finType) (x y : I -> expression R) (t : order I).
Hypothesis once : perm_eq (indices t) (enum I).

Lemma value_inner : value (inner x y t) = \sum_i value (x i) * value (y i).
Proof.
rewrite -big_enum -(perm_big _ once) /=.
by elim: t => [i|s IHs r IHr|i r IHr] /=; rewrite ?big_seq1 ?big_cat ?big_cons /= -?IHs -?IHr.
Qed.

Lemma majorant_inner : majorant (inner x y t) = \sum_i majorant (x i) * majorant (y i).
Proof.
rewrite -big_enum -(perm_big _ once) /=.
by elim: t => [i|s IHs r IHr|i r IHr] /=; rewrite ?big_seq1 ?big_cat ?big_cons /= -?IHs -?IHr.
Qed.

Lemma roundings_inner k : (forall i, roundings (x i) + roundings (y i) <= k)%N ->
  (roundings (inner x y t) <= k + #|I|)%N.
Proof.
move=> xy_le; rewrite cardE -(perm_size once).
elim: t => [i|s IHs r IHr|i r IHr] /=; first by rewrite addn1 ltnS.
  rewrite size_cat gtn_max; apply/andP; split.
    by apply: leq_ltn_trans IHs _; rewrite ltn_add2l -addn1 leq_add2l size_indices_gt0.
  by apply: leq_ltn_trans IHr _; rewrite ltn_add2l -add1n leq_add2r size_indices_gt0.
by rewrite addnS ltnS geq_max IHr andbT (leq_trans (xy_le i)) // leq_addr.
Qed.

(* Stages in a row: what was computed in k roundings enters an inner product of length n,
   and k + n takes the place of n. *)
Theorem T15_stages k z : (forall i, roundings (x i) + roundings (y i) <= k)%N ->
  (k + #|I|)%:R * u < 1 -> evaluates (inner x y t) z ->
  `|z - \sum_i value (x i) * value (y i)| <=
    gamma (k + #|I|) * \sum_i majorant (x i) * majorant (y i).
Proof.
move=> xy_le nu of_z; have few := roundings_inner xy_le.
have nu' : (roundings (inner x y t))%:R * u < 1.
  by apply: le_lt_trans nu; rewrite ler_wpmul2r // ler_nat.
have := T15_expression nu' of_z; rewrite value_inner majorant_inner; move/le_trans; apply.
rewrite ler_wpmul2r ?sumr_ge0 // => [i _|]; first by rewrite mulr_ge0 ?majorant_ge0.
rewrite -(ler_add2l 1) !gamma_plus1 // lef_pinv ?posrE ?subr_gt0 //.
by rewrite ler_add2l ler_opp2 ler_wpmul2r // ler_nat.
Qed.

End Stage.

(* ---- The bound is attained in the standard model ------------------------- *)

(* Add 1 and then n zeros from left to right, each rounding upwards by as much as it may. *)
Theorem T15_sharp n : exists (x y : 'I_n.+1 -> R) t z,
  [/\ perm_eq (indices t) (enum 'I_n.+1), computes rounded x y t z &
   `|z - \sum_i x i * y i| = ((1 + u) ^+ n.+1 - 1) * \sum_i `|x i| * `|y i|].
Proof.
pose x (i : 'I_n.+1) : R := (i == ord0)%:R; pose y (i : 'I_n.+1) : R := 1.
have up a : rounded a (a * (1 + u)) by exists u; rewrite // ger0_norm.
have zero : rounded 0 0 by exists 0; rewrite ?normr0 ?mul0r.
have computes_add s t a : ord0 \notin s -> computes rounded x y t a ->
    computes rounded x y (left_to_right t s) (a * (1 + u) ^+ size s).
  elim: s t a => [|i s IH] t a /=; first by rewrite expr0 mulr1.
  rewrite inE negb_or eq_sym => /andP[i_neq0 s_neq0] of_a.
  rewrite exprS mulrA; apply: IH => //; apply: (ComputesSum (b := 0) of_a).
    by apply: ComputesProduct; rewrite /x (negPf i_neq0) mul0r.
  by rewrite addr0.
have sum1 : \sum_i x i * y i = 1.
  rewrite (bigD1 ord0) //= big1 ?addr0; first by rewrite /x /y eqxx mulr1.
  by move=> i i_neq0; rewrite /x (negPf i_neq0) mul0r.
have sum_norm : \sum_i `|x i| * `|y i| = 1.
  rewrite -[RHS]sum1; apply: eq_bigr => i _.
  by rewrite /x /y normr1 ger0_norm // ler0n.
exists x, y, (left_to_right (Product ord0) (behead (enum 'I_n.+1))), ((1 + u) ^+ n.+1).
rewrite sum1 sum_norm mulr1 indices_left_to_right enum_ordSl /=.
split=> //; last by rewrite ger0_norm // growth_ge0.
have -> : (1 + u) ^+ n.+1 = (1 + u) * (1 + u) ^+ size [seq lift ord0 i | i <- enum 'I_n].
  by rewrite size_map size_enum_ord exprS.
apply: computes_add; first by apply/mapP => -[i _ /eqP]; rewrite eqE.
apply: ComputesProduct; rewrite /x /y eqxx mulr1 -[X in rounded _ X]mul1r; exact: up.
Qed.

End Rounding.
