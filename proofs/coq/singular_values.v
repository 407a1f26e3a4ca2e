(* T11 with all singular values: |G^T E|^2 <= sum_i s_i(G)^2 s_i(E)^2, which is von Neumann's trace inequality.

   [singular_values A s] is a hypothesis: A has a singular value decomposition P diag(s) Q^T with orthonormal columns
   and values s 0 >= s 1 >= ..., zero beyond the number of columns (so none is negative). This MathComp has no
   spectral theorem to build one.

   Hypotheses that stand for numerical facts, and the check at run time:
   - [singular_values G s], [singular_values E t]: refgrad.bounds.norms.squared_singular_values returns upper bounds
     on the s_i^2, which keep T11 true; the tests of T15 compare singular values and vectors with mpmath. *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import matrices gradients.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* A singular value decomposition with r values: A = left diag(s) right^T. *)
Record singular_values (R : realFieldType) (M N : finType) (A : M -> N -> R) (s : nat -> R) := SingularValues {
  terms : nat;
  left : M -> 'I_terms -> R;
  right : N -> 'I_terms -> R;
  left_orthonormal : orthonormal_columns left;
  right_orthonormal : orthonormal_columns right;
  values_decrease : forall i, s i.+1 <= s i;
  values_end : forall i, (terms <= i)%N -> s i = 0;
  decomposition : A =2 fun m n => \sum_k left m k * (s k * right n k)
}.

Arguments left {R M N A s} svd _ _ : rename.
Arguments right {R M N A s} svd _ _ : rename.
Arguments left_orthonormal {R M N A s} svd : rename.
Arguments right_orthonormal {R M N A s} svd : rename.
Arguments values_end {R M N A s} svd [i] _ : rename.

(* ---- Sequences that decrease to zero ---- *)

Section Sequences.
Variable R : realFieldType.
Implicit Types x y : nat -> R.

Lemma ge0_of_decrease x n i : (forall j, x j.+1 <= x j) -> (forall j, (n <= j)%N -> x j = 0) -> 0 <= x i.
Proof.
move=> x_falls x_end; have falls k : x (i + k)%N <= x i.
  by elim: k => [|k bound]; rewrite ?addn0 ?addnS //; apply: le_trans (x_falls _) bound.
by rewrite -(x_end (i + n)%N) ?leq_addl.
Qed.

Lemma le_first x i : (forall j, x j.+1 <= x j) -> x i <= x 0%N.
Proof. by move=> x_falls; elim: i => [|i bound] //; apply: le_trans (x_falls i) bound. Qed.

Lemma sum_past_end x m n : (m <= n)%N -> (forall j, (m <= j)%N -> x j = 0) -> \sum_(i < n) x i = \sum_(i < m) x i.
Proof.
move=> m_n x_end; rewrite (big_ord_widen n x m_n) [RHS]big_mkcond; apply: eq_bigr => i _.
by case: ltnP => // /x_end.
Qed.

(* A sequence that ends in zeros is the sum of its falls. *)
Lemma sum_of_falls x n i : (forall j, (n <= j)%N -> x j = 0) ->
  x i = \sum_(k < n) (x k - x k.+1) * (i <= k)%:R.
Proof.
move=> x_end; have [n_i | i_n] := leqP n i.
  by rewrite x_end // big1 // => k _; rewrite leqNgt (leq_trans (ltn_ord k) n_i) mulr0.
rewrite -[LHS]subr0 -[X in _ - X = _](x_end n) // {x_end}; elim: n i_n => // n hypothesis i_n.
rewrite big_ord_recr /= -ltnS i_n mulr1; have [lt | n_i] := ltnP i n.
  by rewrite -hypothesis // addrA subrK.
have -> : i = n by apply/eqP; rewrite eqn_leq n_i -ltnS i_n.
by rewrite big1 ?add0r // => k _; rewrite leqNgt ltn_ord mulr0.
Qed.

End Sequences.

(* ---- Sums against a matrix whose rows and columns sum to at most 1 ---- *)

Section Rearrangement.
Variables (R : realFieldType) (m n : nat) (x y : nat -> R) (d : 'I_m -> 'I_n -> R).
Hypothesis x_falls : forall i, x i.+1 <= x i.
Hypothesis y_falls : forall i, y i.+1 <= y i.
Hypothesis x_end : forall i, (m <= i)%N -> x i = 0.
Hypothesis y_end : forall i, (n <= i)%N -> y i = 0.
Hypothesis d_ge0 : forall i j, 0 <= d i j.
Hypothesis rows_le1 : forall i, \sum_j d i j <= 1.
Hypothesis columns_le1 : forall j, \sum_i d i j <= 1.

Let N := maxn m n.

Lemma corner_le (k l : nat) :
  \sum_(i < m) \sum_(j < n) (i <= k)%:R * (j <= l)%:R * d i j <= \sum_(i < N) (i <= k)%:R * (i <= l)%:R :> R.
Proof.
have part (b : bool) (z : R) : 0 <= z -> b%:R * z <= z by case: b => z_ge0; rewrite ?mul1r ?mul0r.
have [k_l | l_k] := leqP k l.
  apply: (@le_trans _ _ (\sum_(i < m) (i <= k)%:R)).
    apply: ler_sum => i _; apply: (@le_trans _ _ ((i <= k)%:R * \sum_j d i j)).
      rewrite mulr_sumr; apply: ler_sum => j _; rewrite -mulrA; apply: ler_wpmul2l; first exact: ler0n.
      exact: part.
    by rewrite -[leRHS]mulr1; apply: ler_wpmul2l; rewrite ?ler0n.
  rewrite (big_ord_widen N (fun i => (i <= k)%:R : R) (leq_maxl m n)) big_mkcond; apply: ler_sum => i _.
  have [i_k|_] := leqP i k; last by rewrite mul0r; case: ifP.
  by rewrite (leq_trans i_k k_l) mulr1; case: ifP; rewrite ?ler01.
rewrite exchange_big; apply: (@le_trans _ _ (\sum_(j < n) (j <= l)%:R)).
  apply: ler_sum => j _; apply: (@le_trans _ _ ((j <= l)%:R * \sum_i d i j)).
    rewrite mulr_sumr; apply: ler_sum => i _; rewrite mulrAC mulrC; apply: ler_wpmul2l; first exact: ler0n.
    exact: part.
  by rewrite -[leRHS]mulr1; apply: ler_wpmul2l; rewrite ?ler0n.
rewrite (big_ord_widen N (fun j => (j <= l)%:R : R) (leq_maxr m n)) big_mkcond; apply: ler_sum => j _.
have [j_l|_] := leqP j l; last by rewrite mulr0; case: ifP.
by rewrite (leq_trans j_l (ltnW l_k)) mulr1; case: ifP; rewrite ?ler01.
Qed.

Lemma rearrangement : \sum_(i < m) \sum_(j < n) x i * y j * d i j <= \sum_(i < m) x i * y i.
Proof.
pose xi k := x k - x k.+1; pose eta l := y l - y l.+1.
have x_sum i : x i = \sum_(k < N) xi k * (i <= k)%:R.
  by apply: sum_of_falls => j N_j; apply: x_end; apply: leq_trans N_j; apply: leq_maxl.
have y_sum i : y i = \sum_(l < N) eta l * (i <= l)%:R.
  by apply: sum_of_falls => j N_j; apply: y_end; apply: leq_trans N_j; apply: leq_maxr.
have -> : \sum_(i < m) x i * y i
    = \sum_(k < N) \sum_(l < N) xi k * eta l * \sum_(i < N) (i <= k)%:R * (i <= l)%:R.
  rewrite -(@sum_past_end _ (fun i => x i * y i) m N (leq_maxl m n)); last by move=> j /x_end ->; rewrite mul0r.
  under [RHS]eq_bigr do under eq_bigr do rewrite mulr_sumr.
  under [RHS]eq_bigr do rewrite exchange_big.
  rewrite [RHS]exchange_big; apply: eq_bigr => i _.
  rewrite x_sum y_sum sum_product; apply: eq_bigr => k _; apply: eq_bigr => l _; ring.
have -> : \sum_(i < m) \sum_(j < n) x i * y j * d i j
    = \sum_(k < N) \sum_(l < N) xi k * eta l * \sum_(i < m) \sum_(j < n) (i <= k)%:R * (j <= l)%:R * d i j.
  transitivity (\sum_(ij : 'I_m * 'I_n) \sum_(kl : 'I_N * 'I_N)
      xi kl.1 * eta kl.2 * ((ij.1 <= kl.1)%:R * (ij.2 <= kl.2)%:R * d ij.1 ij.2)).
    rewrite pair_big; apply: eq_bigr => ij _ /=; rewrite x_sum y_sum sum_product mulr_suml.
    rewrite -(pair_big xpredT xpredT (fun k l : 'I_N =>
      xi k * eta l * ((ij.1 <= k)%:R * (ij.2 <= l)%:R * d ij.1 ij.2))) /=.
    apply: eq_bigr => k _; rewrite mulr_suml; apply: eq_bigr => l _; ring.
  rewrite exchange_big [RHS]pair_big; apply: eq_bigr => kl _ /=.
  by rewrite [in RHS]pair_big mulr_sumr.
apply: ler_sum => k _; apply: ler_sum => l _; apply: ler_wpmul2l; last exact: corner_le.
by apply: mulr_ge0; rewrite subr_ge0.
Qed.

End Rearrangement.

(* ---- T11 ---- *)

Section SingularValues.
Variables (R : realFieldType) (M N : finType) (A : M -> N -> R) (s : nat -> R).
Hypothesis svd : singular_values A s.

Lemma singular_value_ge0 i : 0 <= s i.
Proof.
by apply: (@ge0_of_decrease _ _ (terms svd)); [exact: values_decrease svd | exact: (values_end svd)].
Qed.

Lemma squared_values_decrease i : s i.+1 ^+ 2 <= s i ^+ 2.
Proof. by rewrite ler_pexpn2r ?nnegrE ?singular_value_ge0 ?(values_decrease svd). Qed.

Lemma squared_values_end i : (terms svd <= i)%N -> s i ^+ 2 = 0.
Proof. by move=> /(values_end svd) ->; rewrite expr0n. Qed.

Lemma decomposition_product :
  A =2 product (left svd) (transpose (fun n (k : 'I_(terms svd)) => s k * right svd n k)).
Proof. exact: decomposition. Qed.

(* |A|^2 = sum_i s_i^2. *)
Lemma matrix_energy_values : matrix_energy A = \sum_(i < terms svd) s i ^+ 2.
Proof.
rewrite (eq_matrix_energy decomposition_product) matrix_energy_orthonormal_left; last exact: left_orthonormal.
apply: eq_bigr => k _; rewrite -[LHS]/(energy (fun n => s k * right svd n k)) energy_scale.
by rewrite energy_column ?mulr1 //; apply: right_orthonormal.
Qed.

(* |A|_2 = s_0. *)
Lemma spectral_bound_first_value : spectral_bound A (s 0%N ^+ 2).
Proof.
split=> [|x]; first exact: sqr_ge0.
pose scaled (k : 'I_(terms svd)) := s k * apply (transpose (right svd)) x k.
rewrite (@eq_energy _ _ _ (apply (left svd) scaled)); last first.
  move=> m; rewrite /scaled /apply /transpose; under eq_bigr do rewrite (decomposition svd) mulr_suml.
  rewrite exchange_big; apply: eq_bigr => k _; rewrite !mulr_sumr; apply: eq_bigr => n _; ring.
rewrite energy_orthonormal; last exact: left_orthonormal.
apply: (@le_trans _ _ (s 0%N ^+ 2 * energy (apply (transpose (right svd)) x))); last first.
  by apply: ler_wpmul2l; [apply: sqr_ge0 | apply: bessel; apply: right_orthonormal].
rewrite mulr_sumr; apply: ler_sum => k _; rewrite exprMn; apply: ler_wpmul2r; first exact: sqr_ge0.
exact: (@le_first _ (fun i => s i ^+ 2) k squared_values_decrease).
Qed.

End SingularValues.

Arguments squared_values_end {R M N A s} svd [i] _.

Section Spectral.
Variables (R : realFieldType) (positions inputs outputs : finType).
Variables (E : positions -> inputs -> R) (G : positions -> outputs -> R) (s t : nat -> R).
Hypotheses (G_svd : singular_values G s) (E_svd : singular_values E t).

Let C := product (transpose (left G_svd)) (left E_svd).

Lemma linear_weight_gradient_values :
  matrix_energy (linear_weight_gradient E G) =
  \sum_(i < terms G_svd) \sum_(j < terms E_svd) s i ^+ 2 * t j ^+ 2 * C i j ^+ 2.
Proof.
transitivity (matrix_energy (product (right G_svd)
    (product (fun (i : 'I_(terms G_svd)) (j : 'I_(terms E_svd)) => s i * C i j * t j) (transpose (right E_svd))))).
  apply: eq_matrix_energy => o k; rewrite /linear_weight_gradient /product /C /product /transpose.
  under eq_bigr do rewrite (decomposition G_svd) (decomposition E_svd) sum_product.
  rewrite exchange_big; apply: eq_bigr => i _; rewrite exchange_big mulr_sumr; apply: eq_bigr => j _.
  rewrite mulr_sumr !mulr_suml mulr_sumr; apply: eq_bigr => m _; ring.
rewrite matrix_energy_orthonormal_left ?matrix_energy_orthonormal_right; try exact: right_orthonormal.
by apply: eq_bigr => i _; apply: eq_bigr => j _; rewrite !exprMn mulrAC.
Qed.

Lemma overlap_rows i : \sum_j C i j ^+ 2 <= 1.
Proof.
rewrite -(energy_column i (left_orthonormal G_svd)).
apply: le_trans (bessel (fun m => left G_svd m i) (left_orthonormal E_svd)).
rewrite le_eqVlt; apply/orP; left; apply/eqP; apply: eq_bigr => j _; congr (_ ^+ 2).
by apply: eq_bigr => m _; rewrite mulrC.
Qed.

Lemma overlap_columns j : \sum_i C i j ^+ 2 <= 1.
Proof.
rewrite -(energy_column j (left_orthonormal E_svd)).
exact: (bessel (fun m => left E_svd m j) (left_orthonormal G_svd)).
Qed.

(* |G^T E|^2 <= sum_i s_i(G)^2 s_i(E)^2. *)
Theorem T11_spectral :
  matrix_energy (linear_weight_gradient E G) <= \sum_(i < terms G_svd) s i ^+ 2 * t i ^+ 2.
Proof.
rewrite linear_weight_gradient_values.
apply: (@rearrangement _ _ _ (fun i => s i ^+ 2) (fun i => t i ^+ 2) (fun i j => C i j ^+ 2)).
- exact: (squared_values_decrease G_svd).
- exact: (squared_values_decrease E_svd).
- exact: (squared_values_end G_svd).
- exact: (squared_values_end E_svd).
- by move=> i j; apply: sqr_ge0.
- exact: overlap_rows.
- exact: overlap_columns.
Qed.

(* sum_i s_i(G)^2 s_i(E)^2 <= min(|G|_2^2 |E|^2, |G|^2 |E|_2^2). *)
Theorem T11_spectral_min :
  \sum_(i < terms G_svd) s i ^+ 2 * t i ^+ 2
  <= Num.min (s 0%N ^+ 2 * matrix_energy E) (matrix_energy G * t 0%N ^+ 2).
Proof.
rewrite le_minr; apply/andP; split.
  rewrite (matrix_energy_values E_svd).
  rewrite -(@sum_past_end _ (fun i => t i ^+ 2) _ _ (leq_maxr (terms G_svd) _)); last exact: (squared_values_end E_svd).
  rewrite -(@sum_past_end _ (fun i => s i ^+ 2 * t i ^+ 2) _ _ (leq_maxl _ (terms E_svd))); last first.
    by move=> i /(squared_values_end G_svd) ->; rewrite mul0r.
  rewrite mulr_sumr; apply: ler_sum => i _; apply: ler_wpmul2r; first exact: sqr_ge0.
  exact: (@le_first _ (fun i => s i ^+ 2) i (squared_values_decrease G_svd)).
rewrite (matrix_energy_values G_svd) mulr_suml; apply: ler_sum => i _; apply: ler_wpmul2l; first exact: sqr_ge0.
exact: (@le_first _ (fun i => t i ^+ 2) i (squared_values_decrease E_svd)).
Qed.

End Spectral.

(* ---- Sharp ---- *)

Section Sharp.
Variables (R : realFieldType) (positions inputs : finType) (r : nat).
Variables (E : positions -> inputs -> R) (G : positions -> 'I_r -> R) (C : 'I_r -> inputs -> R) (t : nat -> R).
Hypotheses (G_orth : orthonormal_columns G) (E_spanned : E =2 product G C) (E_svd : singular_values E t).

Lemma identity_orthonormal : orthonormal_columns (@identity R [finType of 'I_r]).
Proof. by move=> i j; rewrite /product; under eq_bigr do rewrite /transpose /identity eq_sym; apply: sum_identity. Qed.

Lemma one_values_decrease i : (i.+1 < r)%:R <= (i < r)%:R :> R.
Proof. by rewrite ler_nat; case: (ltnP i.+1 r) => // /ltnW ->. Qed.

Lemma one_values_end i : (r <= i)%N -> (i < r)%:R = 0 :> R.
Proof. by rewrite leqNgt => /negPf ->. Qed.

Lemma orthonormal_decomposition :
  G =2 fun m n => \sum_(k < r) G m k * ((k < r)%:R * @identity R [finType of 'I_r] n k).
Proof.
move=> m n; rewrite -[LHS](sum_identity n (G m)); apply: eq_bigr => k _.
by rewrite ltn_ord mul1r mulrC.
Qed.

(* Orthonormal columns are their own singular vectors, with values 1. *)
Definition orthonormal_singular_values : singular_values G (fun i => (i < r)%:R) :=
  SingularValues G_orth identity_orthonormal one_values_decrease one_values_end orthonormal_decomposition.

(* G has orthonormal columns that span those of E: |G^T E|, the middle term and |G|_2 |E| are equal. *)
Theorem T11_spectral_sharp :
  matrix_energy (linear_weight_gradient E G) = \sum_(i < r) (i < r)%:R ^+ 2 * t i ^+ 2
  /\ matrix_energy (linear_weight_gradient E G) = 1 * matrix_energy E.
Proof.
have [_ attained] := T11_sharp G_orth E_spanned; split=> //.
have := T11_spectral_min orthonormal_singular_values E_svd.
rewrite le_minr /= => /andP [upper _]; apply: le_anti; rewrite (T11_spectral orthonormal_singular_values E_svd) /=.
rewrite attained mul1r; apply: le_trans upper _.
rewrite -[leRHS]mul1r; apply: ler_wpmul2r; first exact: matrix_energy_ge0.
by case: (ltnP 0 r); rewrite ?expr1n ?expr0n /= ?ler01.
Qed.

(* And so is |G| |E|_2 where the r leading singular values of E are equal. *)
Theorem T11_spectral_sharp_frobenius : (forall i, (i < r)%N -> t i = t 0%N) ->
  matrix_energy (linear_weight_gradient E G) = matrix_energy G * t 0%N ^+ 2.
Proof.
move=> t_equal; have [-> _] := T11_spectral_sharp.
rewrite (matrix_energy_values orthonormal_singular_values) mulr_suml /=.
by apply: eq_bigr => i _; rewrite t_equal.
Qed.

End Sharp.
