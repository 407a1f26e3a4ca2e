(* Tensors of any order, mode products, and projections from orthonormal columns.

   A tensor of shape n_1 x ... x n_d is a finite function from multi-indices, which
   are dependent finite functions j |-> k_j < n_j, to the field; d is arbitrary.

   Proved here: unfolding a mode is a linear isometry; a mode product by a symmetric
   matrix is self-adjoint; products along one mode compose; products along different
   modes commute; the product along all modes at once ([tucker]) composes, has its
   transpose as adjoint, unfolds to M_j A_(j) K^T, and is what the mode products one after another give; a
   symmetric idempotent matrix on a mode is an orthogonal projection of the tensor
   space; and a matrix with orthonormal columns U gives such a matrix, U U^T.

   The one hypothesis that stands for a numerical fact is [orthonormal U], U^T U = 1.
   The check of the oracle that certifies it is orthonormal_verdict. *)

From mathcomp Require Import all_ssreflect all_algebra.
From refgrad Require Import inner_product.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

(* ---- Multi-indices ----------------------------------------------------- *)

(* The multi-indices of a shape n : 'I_d -> nat. *)
Notation index n := {dffun forall j, 'I_(n j)}.

(* Tensors of shape n over R. *)
Notation tensor R n := {ffun index n -> R^o}.

(* What is left of a multi-index without its place j. *)
Notation others n j := {dffun forall i : {i | i != j}, 'I_(n (val i))}.

Section Index.

Variables (d : nat) (n : 'I_d -> nat) (j : 'I_d).
Implicit Types (k : index n) (a : 'I_(n j)) (c : others n j).

(* The multi-index with a at place j and c elsewhere. *)
Definition merge a c : index n :=
  [ffun i => match eqVneq i j with
             | EqNotNeq e => ecast i0 'I_(n i0) (esym e) a
             | NeqNotEq ne => c (exist _ i ne)
             end].

(* The multi-index without its place j. *)
Definition without k : others n j := [ffun i => k (val i)].

Lemma merge_same a c : merge a c j = a.
Proof.
rewrite ffunE; case: (eqVneq j j) => [e|/eqP //].
by rewrite eq_axiomK.
Qed.

Lemma merge_other a c (i : {i | i != j}) : merge a c (val i) = c i.
Proof.
rewrite ffunE; case: i => i ij /=; case: (eqVneq i j) => [e|ne].
  by exfalso; move: ij; rewrite e eqxx.
by rewrite (bool_irrelevance ne ij).
Qed.

Lemma without_merge a c : without (merge a c) = c.
Proof. by apply/ffunP => i; rewrite ffunE merge_other. Qed.

Lemma merge_without k : merge (k j) (without k) = k.
Proof.
apply/ffunP => i; have [->|ij] := eqVneq i j; first by rewrite merge_same.
by rewrite (merge_other _ _ (exist _ i ij)) ffunE.
Qed.

(* A sum over multi-indices is a sum over place j and over the others. *)
Lemma big_index (T : Type) (x0 : T) (op : Monoid.com_law x0) (F : index n -> T) :
  \big[op/x0]_k F k = \big[op/x0]_a \big[op/x0]_c F (merge a c).
Proof.
rewrite pair_bigA /= (reindex (fun p : 'I_(n j) * others n j => merge p.1 p.2)) //.
exists (fun k => (k j, without k)) => [[a c] _|k _] /=.
  by rewrite merge_same without_merge.
exact: merge_without.
Qed.

(* The multi-index k with a put at place j. *)
Definition put k a : index n := merge a (without k).

Lemma put_same k a : put k a j = a.
Proof. exact: merge_same. Qed.

Lemma put_other k a i : i != j -> put k a i = k i.
Proof. by move=> ij; rewrite (merge_other _ _ (exist _ i ij)) ffunE. Qed.

Lemma put_id k : put k (k j) = k.
Proof. exact: merge_without. Qed.

End Index.

Lemma putC d (n : 'I_d -> nat) (i j : 'I_d) (k : index n) (a : 'I_(n i)) (b : 'I_(n j)) :
  i != j -> put (put k a) b = put (put k b) a.
Proof.
move=> ij; apply/ffunP => l; have [->|li] := eqVneq l i.
  by rewrite put_same put_other // put_same.
have [lj|lj] := eqVneq l j; last by rewrite !put_other.
by rewrite lj in li *; rewrite put_same put_other // put_same.
Qed.

(* A product over modes of sums is a sum over multi-indices of products. *)
Lemma prod_sum_index (R : comRingType) (I : finType) (n : I -> nat) (F : forall j, 'I_(n j) -> R) :
  \prod_j (\sum_a F j a) = \sum_(k : index n) \prod_j F j (k j).
Proof.
pose T := {j : I & 'I_(n j)}.
pose G (t : T) := F (tag t) (tagged t).
have -> : \prod_j (\sum_a F j a) = \prod_j (\sum_(t : T | tag t == j) G t).
  apply: eq_bigr => j _; pose h (a : 'I_(n j)) : T := Tagged _ a.
  pose h' (t : T) : option 'I_(n j) :=
    if eqP is ReflectT e then Some (ecast i 'I_(n i) e (tagged t)) else None.
  rewrite (reindex_omap h (fun t => h' t)) /=.
    apply: eq_big => [a|a _] //; rewrite eqxx /h' /h /=.
    by case: eqP => // e; rewrite eq_axiomK eqxx.
  move=> [i a] /= /eqP e; rewrite /h' /=; case: eqP => //= e'.
  by subst j; rewrite eq_axiomK.
rewrite bigA_distr_big_dep.
pose h (k : index n) : {ffun I -> T} := [ffun j => Tagged (fun j => 'I_(n j)) (k j)].
have h_inj : injective h.
  move=> k l /ffunP kl; apply/ffunP => j; move: (kl j); rewrite !ffunE.
  by move/eqP; rewrite -tag_eqE /tag_eq eqxx /= tagged_asE => /eqP.
have h_fam k : h k \in family (fun j (t : T) => tag t == j).
  by apply/familyP => j; rewrite unfold_in ffunE.
rewrite (eq_bigl (fun f => f \in [set h k | k in setT])).
  rewrite big_imset /=; last by move=> k l _ _; apply: h_inj.
  by apply: eq_big => [k|k _]; rewrite ?inE //; apply: eq_bigr => j _; rewrite ffunE.
move=> f; apply/idP/imsetP => [/familyP fam|[k _ ->]]; last exact: h_fam.
have tagf j : tag (f j) = j by apply/eqP/fam.
exists [ffun j => ecast i 'I_(n i) (tagf j) (tagged (f j))] => //.
apply/ffunP => j; rewrite !ffunE; case: (f j) (tagf j) => i a /= e.
by subst i.
Qed.

(* ---- The tensor space -------------------------------------------------- *)

Section TensorSpace.

Variables (R : realFieldType) (d : nat) (n : 'I_d -> nat).
Implicit Types (X Y : tensor R n).

(* The entrywise inner product. *)
Definition tensor_dot X Y : R := \sum_k (X k : R) * (Y k : R).

Definition tensor_ip : innerProduct [lmodType R of tensor R n].
Proof.
exists tensor_dot => [X Y Z|a X Y|X Y|X|X X0]; rewrite /tensor_dot.
- by rewrite -big_split /=; apply: eq_bigr => k _; rewrite ffunE mulrDl.
- by rewrite mulr_sumr; apply: eq_bigr => k _; rewrite ffunE -mulrA.
- by apply: eq_bigr => k _; rewrite mulrC.
- by apply: sumr_ge0 => k _; rewrite -expr2 sqr_ge0.
apply/ffunP => k; rewrite [RHS]ffunE; apply/eqP.
move/eqP: X0; rewrite psumr_eq0 => [/allP/(_ k (mem_index_enum k))/=|l _].
  by rewrite mulf_eq0 orbb.
by rewrite -expr2 sqr_ge0.
Defined.

Lemma tensor_dotE X Y : dot tensor_ip X Y = \sum_k (X k : R) * (Y k : R).
Proof. by []. Qed.

(* The tensor with entry 1 at l and 0 elsewhere. *)
Definition unit_tensor (l : index n) : tensor R n := [ffun k => (k == l)%:R].

Lemma dot_unit l m : dot tensor_ip (unit_tensor l) (unit_tensor m) = (l == m)%:R.
Proof.
rewrite tensor_dotE (bigD1 l) //= !ffunE eqxx mul1r big1 ?addr0 // => k kl.
by rewrite ffunE (negbTE kl) mul0r.
Qed.

End TensorSpace.

Arguments tensor_ip R {d} n.
Arguments unit_tensor R {d n} l.

(* ---- Unfolding and mode products --------------------------------------- *)

Section Columns.

Variables (d : nat) (n : 'I_d -> nat) (j : 'I_d).

(* The columns of the mode-j unfolding are numbered by the multi-indices of the other modes. *)
Definition columns : nat := #|{: others n j}|.

Definition column_index (c : 'I_columns) : others n j := enum_val c.

Definition column_number (c : others n j) : 'I_columns := enum_rank c.

Lemma column_indexK : cancel column_index column_number.
Proof. exact: enum_valK. Qed.

Lemma column_numberK : cancel column_number column_index.
Proof. exact: enum_rankK. Qed.

Lemma column_index_eq (c e : 'I_columns) : (column_index c == column_index e) = (c == e).
Proof. exact: can_eq column_indexK c e. Qed.

Lemma sum_columns (V : zmodType) (F : 'I_columns -> V) :
  \sum_c F c = \sum_(c : others n j) F (column_number c).
Proof.
rewrite (reindex_onto column_number column_index) => [|c _]; last exact: column_indexK.
by apply: eq_bigl => c; rewrite column_numberK eqxx.
Qed.

End Columns.

Section Unfolding.

Variables (R : realFieldType) (d : nat) (n : 'I_d -> nat) (j : 'I_d).
Implicit Types (X Y : tensor R n) (M N : 'M[R]_(n j)).

(* The mode-j unfolding: one row for every value of index j. *)
Definition unfold X : 'M[R]_(n j, columns n j) :=
  \matrix_(a, c) (X (merge a (column_index c)) : R).

Definition fold (A : 'M[R]_(n j, columns n j)) : tensor R n :=
  [ffun k : index n => A (k j) (column_number (without j k))].

Lemma unfoldK : cancel unfold fold.
Proof. by move=> X; apply/ffunP => k; rewrite ffunE mxE column_numberK merge_without. Qed.

Lemma foldK : cancel fold unfold.
Proof.
move=> A; apply/matrixP => a c; rewrite mxE ffunE merge_same without_merge.
by rewrite column_indexK.
Qed.

Lemma unfoldD X Y : unfold (X + Y) = unfold X + unfold Y.
Proof. by apply/matrixP => a c; rewrite !mxE ffunE. Qed.

Lemma unfoldZ x X : unfold (x *: X) = x *: unfold X.
Proof. by apply/matrixP => a c; rewrite !mxE ffunE. Qed.

Lemma unfoldN X : unfold (- X) = - unfold X.
Proof. by rewrite -scaleN1r unfoldZ scaleN1r. Qed.

Lemma unfoldB X Y : unfold (X - Y) = unfold X - unfold Y.
Proof. by rewrite unfoldD unfoldN. Qed.

(* Unfolding is an isometry: <X, Y> = tr (X_(j) Y_(j)^T). *)
Lemma dot_unfold X Y : dot (tensor_ip R n) X Y = \tr (unfold X *m (unfold Y)^T).
Proof.
rewrite tensor_dotE (big_index j) /mxtrace; apply: eq_bigr => a _.
by rewrite mxE sum_columns; apply: eq_bigr => c _; rewrite !mxE column_numberK.
Qed.

(* X x_j M, defined by (X x_j M)_(j) = M X_(j). *)
Definition mode_product M X : tensor R n := fold (M *m unfold X).

Lemma unfold_mode_product M X : unfold (mode_product M X) = M *m unfold X.
Proof. exact: foldK. Qed.

(* The entries of X x_j M. *)
Lemma mode_productE M X k : mode_product M X k = \sum_a M (k j) a * (X (put k a) : R).
Proof. by rewrite ffunE mxE; apply: eq_bigr => a _; rewrite mxE column_numberK. Qed.

Lemma mode_productD M X Y : mode_product M (X + Y) = mode_product M X + mode_product M Y.
Proof. by apply: (can_inj unfoldK); rewrite unfoldD !unfold_mode_product unfoldD mulmxDr. Qed.

Lemma mode_productZ M x X : mode_product M (x *: X) = x *: mode_product M X.
Proof. by apply: (can_inj unfoldK); rewrite unfoldZ !unfold_mode_product unfoldZ scalemxAr. Qed.

(* Products along one mode compose. *)
Lemma mode_product_comp M N X : mode_product M (mode_product N X) = mode_product (M *m N) X.
Proof. by apply: (can_inj unfoldK); rewrite !unfold_mode_product mulmxA. Qed.

Lemma mode_product1 X : mode_product 1%:M X = X.
Proof. by apply: (can_inj unfoldK); rewrite unfold_mode_product mul1mx. Qed.

(* The adjoint of a mode product is the product by the transpose. *)
Lemma mode_product_adjoint M X Y :
  dot (tensor_ip R n) (mode_product M X) Y = dot (tensor_ip R n) X (mode_product M^T Y).
Proof.
rewrite !dot_unfold !unfold_mode_product trmx_mul trmxK -mulmxA mxtrace_mulC.
by rewrite -mulmxA.
Qed.

End Unfolding.

Arguments unfold {R d n} j X.
Arguments mode_product {R d n} j M X.

(* Products along different modes commute. *)
Lemma mode_productC (R : realFieldType) d (n : 'I_d -> nat) (i j : 'I_d)
    (M : 'M[R]_(n i)) (N : 'M[R]_(n j)) (X : tensor R n) :
  i != j -> mode_product i M (mode_product j N X) = mode_product j N (mode_product i M X).
Proof.
move=> ij; apply/ffunP => k; rewrite !mode_productE.
under eq_bigr => a _ do rewrite mode_productE mulr_sumr.
under [RHS]eq_bigr => b _ do rewrite mode_productE mulr_sumr.
rewrite exchange_big; apply: eq_bigr => b _; apply: eq_bigr => a _ /=.
by rewrite !put_other // 1?eq_sym // putC // mulrCA.
Qed.

(* ---- Products along all modes ------------------------------------------ *)

Section Tucker.

Variable R : realFieldType.

(* X x_1 M_1 ... x_d M_d; the matrices may change the shape. *)
Definition tucker d (m n : 'I_d -> nat) (M : forall j, 'M[R]_(m j, n j)) (X : tensor R n) :
    tensor R m :=
  [ffun k : index m => \sum_(l : index n) (\prod_j M j (k j) (l j)) * (X l : R)].

Lemma eq_tucker d (m n : 'I_d -> nat) (M N : forall j, 'M[R]_(m j, n j)) X :
  (forall j, M j = N j) -> tucker M X = tucker N X.
Proof.
move=> MN; apply/ffunP => k; rewrite !ffunE; apply: eq_bigr => l _.
by congr (_ * _); apply: eq_bigr => j _; rewrite MN.
Qed.

(* Products along all modes compose. *)
Lemma tucker_comp d (m n p : 'I_d -> nat) (M : forall j, 'M[R]_(m j, n j))
    (N : forall j, 'M[R]_(n j, p j)) (X : tensor R p) :
  tucker M (tucker N X) = tucker (fun j => M j *m N j) X.
Proof.
apply/ffunP => k; rewrite !ffunE.
under eq_bigr => l _ do rewrite ffunE mulr_sumr.
rewrite exchange_big; apply: eq_bigr => q _ /=.
under [in RHS]eq_bigr => j _ do rewrite mxE.
rewrite prod_sum_index mulr_suml; apply: eq_bigr => l _.
by rewrite mulrA -big_split.
Qed.

(* The adjoint of a product along all modes is that of the transposes. *)
Lemma tucker_adjoint d (m n : 'I_d -> nat) (M : forall j, 'M[R]_(m j, n j)) X Y :
  dot (tensor_ip R m) (tucker M X) Y = dot (tensor_ip R n) X (tucker (fun j => (M j)^T) Y).
Proof.
rewrite !tensor_dotE.
under eq_bigr => k _ do rewrite ffunE mulr_suml.
under [RHS]eq_bigr => l _ do rewrite ffunE mulr_sumr.
rewrite exchange_big; apply: eq_bigr => l _; apply: eq_bigr => k _ /=.
under [in RHS]eq_bigr => j _ do rewrite mxE.
rewrite -mulrA mulrCA; congr (_ * _); exact: mulrC.
Qed.

Lemma prod_delta (I : finType) (n : I -> nat) (k l : index n) :
  \prod_j ((1%:M : 'M[R]_(n j)) (k j) (l j)) = (k == l)%:R.
Proof.
have [->|kl] := eqVneq k l; first by rewrite big1 // => j _; rewrite mxE eqxx.
have [j klj] : exists j, k j != l j.
  by apply/existsP; apply: contraNT kl => /existsPn kl; apply/eqP/ffunP => j; apply/eqP/negPn/kl.
by rewrite (bigD1 j) //= mxE (negbTE klj) mul0r.
Qed.

Lemma tucker1 d (n : 'I_d -> nat) (X : tensor R n) : tucker (fun j => 1%:M) X = X.
Proof.
apply/ffunP => k; rewrite ffunE (bigD1 k) //= prod_delta eqxx mul1r big1 ?addr0 // => l lk.
by rewrite prod_delta eq_sym (negbTE lk) mul0r.
Qed.

(* What the matrices of the other modes do to the columns of the mode-j unfolding. *)
Definition other_modes d (m n : 'I_d -> nat) (M : forall i, 'M[R]_(m i, n i)) j :
    'M[R]_(columns m j, columns n j) :=
  \matrix_(c, e) \prod_(i : {i | i != j}) 
    M (val i) (column_index c i) (column_index e i).

Lemma prod_other_modes d (j : 'I_d) (F : 'I_d -> R) :
  \prod_(i | i != j) F i = \prod_(i : {i | i != j}) F (val i).
Proof.
rewrite (reindex_omap (val : {i | i != j} -> 'I_d) insub) /=.
  by apply: eq_big => i //; rewrite (valP i) valK eqxx.
by move=> i ij; rewrite insubT.
Qed.

(* The mode-j unfolding of C x_1 M_1 ... x_d M_d. *)
Lemma unfold_tucker d (m n : 'I_d -> nat) (M : forall i, 'M[R]_(m i, n i)) j (C : tensor R n) :
  unfold j (tucker M C) = M j *m unfold j C *m (other_modes M j)^T.
Proof.
apply/matrixP => a c; rewrite mxE ffunE (big_index j) exchange_big mxE /=.
rewrite [RHS]sum_columns; apply: eq_bigr => e _.
rewrite mxE mulr_suml; apply: eq_bigr => b _; rewrite !mxE column_numberK.
rewrite (bigD1 j) //= !merge_same prod_other_modes mulrAC; congr (_ * _ * _).
by apply: eq_bigr => i _; rewrite !merge_other.
Qed.

(* The other modes keep the norm of every row when their columns are orthonormal. *)
Lemma other_modes_orthonormal d (m n : 'I_d -> nat) (M : forall i, 'M[R]_(m i, n i)) j :
  (forall i, i != j -> (M i)^T *m M i = 1%:M) -> (other_modes M j)^T *m other_modes M j = 1%:M.
Proof.
move=> MM; apply/matrixP => e f; rewrite !mxE -column_index_eq.
rewrite -(prod_delta (column_index e) (column_index f)).
under [RHS]eq_bigr => i _ do rewrite -(MM _ (valP i)) mxE.
rewrite prod_sum_index sum_columns; apply: eq_bigr => c _.
by rewrite !mxE column_numberK -big_split; apply: eq_bigr => i _; rewrite !mxE.
Qed.

Variables (d : nat) (n : 'I_d -> nat).
Implicit Types (M : forall j : 'I_d, 'M[R]_(n j)) (X : tensor R n) (s : seq 'I_d).

(* M on the modes of s and the identity on the others. *)
Definition on_modes s M : forall j, 'M[R]_(n j) := fun j => if j \in s then M j else 1%:M.

(* A mode product is a product along all modes, with the identity on the others. *)
Lemma mode_product_tucker M j X : mode_product j (M j) X = tucker (on_modes [:: j] M) X.
Proof.
apply/ffunP => k; rewrite mode_productE ffunE (big_index j); apply: eq_bigr => a _.
have weight (c : others n j) : \prod_i on_modes [:: j] M i (k i) (merge a c i) =
    M j (k j) a * (c == without j k)%:R.
  rewrite (bigD1 j) //= /on_modes mem_seq1 eqxx merge_same; congr (_ * _).
  rewrite (eq_bigr (fun i => (1%:M : 'M[R]_(n i)) (put k a i) (merge a c i))); last first.
    by move=> i ij; rewrite mem_seq1 (negbTE ij) put_other.
  have := prod_delta (put k a) (merge a c).
  rewrite (bigD1 j) //= put_same merge_same !mxE eqxx mul1r => ->.
  congr (_%:R); congr nat_of_bool; apply/eqP/eqP => [e|-> //].
  by rewrite -(without_merge a c) -e without_merge.
rewrite (bigD1 (without j k)) //= weight eqxx mulr1 big1 ?addr0 // => c ck.
by rewrite weight (negbTE ck) mulr0 mul0r.
Qed.

(* The mode products along the modes of s, one after another, the last of s first. *)
Definition mode_products s M X : tensor R n := foldr (fun j => mode_product j (M j)) X s.

Lemma mode_products_tucker s M X : uniq s -> mode_products s M X = tucker (on_modes s M) X.
Proof.
elim: s => [_|j s IHs /= /andP[js us]]; first by rewrite /= (eq_tucker _ (N := fun j => 1%:M)) ?tucker1.
rewrite IHs // mode_product_tucker tucker_comp; apply: eq_tucker => i.
rewrite /on_modes mem_seq1 inE; have [->|ij] := eqVneq i j.
  by rewrite (negbTE js) mulmx1.
by rewrite mul1mx.
Qed.

End Tucker.

(* ---- Projections ------------------------------------------------------- *)

(* A symmetric idempotent matrix: an orthogonal projector. *)
Definition projector (R : realFieldType) m (P : 'M[R]_m) : Prop := P^T = P /\ P *m P = P.

(* The columns of U are orthonormal. *)
Definition orthonormal (R : realFieldType) m r (U : 'M[R]_(m, r)) : Prop := U^T *m U = 1%:M.

(* Orthonormal columns U give the projector U U^T. *)
Lemma orthonormal_projector (R : realFieldType) m r (U : 'M[R]_(m, r)) :
  orthonormal U -> projector (U *m U^T).
Proof.
move=> UU; split; first by rewrite trmx_mul trmxK.
by rewrite mulmxA -(mulmxA U) UU mulmx1.
Qed.

Section ModeProjection.

Variables (R : realFieldType) (d : nat) (n : 'I_d -> nat) (j : 'I_d) (P : 'M[R]_(n j)).
Hypothesis projP : projector P.

(* X -> X x_j P is an orthogonal projection of the tensor space. *)
Definition mode_projection : orthoProjection (tensor_ip R n).
Proof.
exists (mode_product j P) => [X Y|a X|X|X Y].
- exact: mode_productD.
- exact: mode_productZ.
- by rewrite mode_product_comp projP.2.
- by rewrite mode_product_adjoint projP.1.
Defined.

End ModeProjection.

(* A product with orthonormal columns along every mode keeps the norm. *)
Lemma tucker_isometry (R : realFieldType) d (n r : 'I_d -> nat) (U : forall j, 'M[R]_(n j, r j))
    (X : tensor R r) :
  (forall j, orthonormal (U j)) -> sqnorm (tensor_ip R n) (tucker U X) = sqnorm (tensor_ip R r) X.
Proof.
move=> UU; rewrite /sqnorm tucker_adjoint tucker_comp (eq_tucker _ (N := fun j => 1%:M)) ?tucker1 //.
Qed.
