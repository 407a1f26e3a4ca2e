(* T10 (isolation) and T13 (the network), about a model of the compressed training step (D7).

   A network is a chain of operations. An operation has a forward map, an operand (the part of its input that is
   stored, perhaps compressed), what else it keeps for backward (exact: a mask, an argmax, a mean), and three
   backward maps:
   - [input_gradient], the gradient that goes upstream, and [other_gradient], of its parameters but the weight, from
     what it keeps and from the gradient of its output;
   - [weight_gradient], from the stored operand and the gradient of its output.

   The forward pass applies a storage to every operand and writes a tape; the backward pass sees nothing but the tape
   and the gradient of the loss at the output. States and scalars of the chain are of any type: floating-point numbers
   too, so that the equalities of T10 are equalities of bits; and a state may be a tuple of all values that are still
   alive, so that branches and values used twice are covered.

   D7 is in the types of the backward maps, that dA and db use no stored activation. What is proved is that it
   suffices: through all layers, whatever the storages. That linear layers, convolutions and operations without a
   weight are of this form is shown by the instances, whose maps are those of D6.

   Hypotheses that stand for numerical facts, and the check at run time: in [T13_bound] the bound of each layer (T11,
   T12): refgrad.bounds.weight_gradient_bound; refgrad.bounds.network_bound adds up their squares. That two runs
   agree bit for bit in all but the weight gradients is also tested (test_T10_..., test_D7_T10_...). *)

From mathcomp Require Import all_ssreflect all_algebra.
From mathcomp Require Import ring.
From refgrad Require Import matrices gradients convolution.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory Num.Theory Order.Theory.
Local Open Scope ring_scope.

(* ---- The step ---- *)

Record operation (F X Y : Type) := Operation {
  operand_index : finType;
  weight_index : finType;
  other_index : finType;
  kept : Type;
  forward : X -> Y;
  operand : X -> operand_index -> F;
  keep : X -> kept;
  input_gradient : kept -> Y -> X;
  other_gradient : kept -> Y -> other_index -> F;
  weight_gradient : (operand_index -> F) -> Y -> weight_index -> F
}.

Arguments forward {F X Y} l : rename.
Arguments operand {F X Y} l : rename.
Arguments keep {F X Y} l : rename.
Arguments input_gradient {F X Y} l : rename.
Arguments other_gradient {F X Y} l : rename.
Arguments weight_gradient {F X Y} l : rename.

Inductive network (F : Type) : Type -> Type -> Type :=
| Identity X : network F X X
| Chain X Y Z (l : operation F X Y) (n : network F Y Z) : network F X Z.

Section Step.
Variable F : Type.

(* For each operation, what becomes of its operand when it is stored and restored. *)
Fixpoint storage X Z (n : network F X Z) : Type :=
  match n with
  | Identity _ => unit
  | Chain _ _ _ l n => (((operand_index l -> F) -> operand_index l -> F) * storage n)%type
  end.

Fixpoint exact_storage X Z (n : network F X Z) : storage n :=
  match n as n in network _ X Z return storage n with
  | Identity _ => tt
  | Chain _ _ _ l n => (id, exact_storage n)
  end.

Fixpoint tape X Z (n : network F X Z) : Type :=
  match n with
  | Identity _ => unit
  | Chain _ _ _ l n => ((operand_index l -> F) * kept l * tape n)%type
  end.

Fixpoint forward_pass X Z (n : network F X Z) : storage n -> X -> Z * tape n :=
  match n as n in network _ X Z return storage n -> X -> Z * tape n with
  | Identity _ => fun _ x => (x, tt)
  | Chain _ _ _ l n => fun s x =>
      let: (z, t) := forward_pass s.2 (forward l x) in (z, ((s.1 (operand l x), keep l x), t))
  end.

Record gradients_of X Y (l : operation F X Y) := GradientsOf {
  grad_output : Y;
  grad_input : X;
  grad_other : other_index l -> F;
  grad_weight : weight_index l -> F
}.

Arguments GradientsOf {X Y l}.
Arguments grad_output {X Y l}.
Arguments grad_input {X Y l}.
Arguments grad_other {X Y l}.
Arguments grad_weight {X Y l}.

Fixpoint gradients X Z (n : network F X Z) : Type :=
  match n with
  | Identity _ => unit
  | Chain _ _ _ l n => (gradients_of l * gradients n)%type
  end.

Fixpoint backward_pass X Z (n : network F X Z) : tape n -> Z -> X * gradients n :=
  match n as n in network _ X Z return tape n -> Z -> X * gradients n with
  | Identity _ => fun _ g => (g, tt)
  | Chain _ _ _ l n => fun t g =>
      let: (upstream, rest) := backward_pass t.2 g in
      let: dA := input_gradient l t.1.2 upstream in
      (dA, (GradientsOf upstream dA (other_gradient l t.1.2 upstream) (weight_gradient l t.1.1 upstream), rest))
  end.

(* The output of the network, the gradient with respect to its input, and those of all operations. *)
Definition step X Z (n : network F X Z) (loss_gradient : Z -> Z) (s : storage n) (x : X) : Z * X * gradients n :=
  let: (z, t) := forward_pass s x in
  let: (dx, gradients) := backward_pass t (loss_gradient z) in
  (z, dx, gradients).

(* ---- T10 ---- *)

(* Everything but the weight gradients. *)
Fixpoint other_gradients X Z (n : network F X Z) : Type :=
  match n with
  | Identity _ => unit
  | Chain X Y _ l n => (Y * X * (other_index l -> F) * other_gradients n)%type
  end.

Fixpoint without_weights X Z (n : network F X Z) : gradients n -> other_gradients n :=
  match n as n in network _ X Z return gradients n -> other_gradients n with
  | Identity _ => fun _ => tt
  | Chain _ _ _ l n => fun g =>
      (grad_output g.1, grad_input g.1, grad_other g.1, without_weights g.2)
  end.

(* What a tape holds besides the stored operands. *)
Fixpoint kept_exactly X Z (n : network F X Z) : Type :=
  match n with
  | Identity _ => unit
  | Chain _ _ _ l n => (kept l * kept_exactly n)%type
  end.

Fixpoint without_operands X Z (n : network F X Z) : tape n -> kept_exactly n :=
  match n as n in network _ X Z return tape n -> kept_exactly n with
  | Identity _ => fun _ => tt
  | Chain _ _ _ l n => fun t => (t.1.2, without_operands t.2)
  end.

(* The forward pass does not depend on the storage, but for the stored operands. *)
Lemma forward_pass_exact X Z (n : network F X Z) (s s' : storage n) x :
  (forward_pass s x).1 = (forward_pass s' x).1
  /\ without_operands (forward_pass s x).2 = without_operands (forward_pass s' x).2.
Proof.
elim: n s s' x => [X' | X' Y Z' l n hypothesis] //= s s' x.
have := hypothesis s.2 s'.2 (forward l x).
by case: (forward_pass s.2 _) => z t; case: (forward_pass s'.2 _) => z' t' /= [-> ->].
Qed.

(* The backward pass does not depend on the stored operands, but for the weight gradients. *)
Lemma backward_pass_exact X Z (n : network F X Z) (t t' : tape n) g :
  without_operands t = without_operands t' ->
  (backward_pass t g).1 = (backward_pass t' g).1
  /\ without_weights (backward_pass t g).2 = without_weights (backward_pass t' g).2.
Proof.
elim: n t t' g => [X' | X' Y Z' l n hypothesis] //= t t' g [same_kept /hypothesis].
move=> /(_ g); case: (backward_pass t.2 g) => dy rest; case: (backward_pass t'.2 g) => dy' rest' /= [-> ->].
by rewrite same_kept.
Qed.

(* Whatever the storages: the same output, the same gradient of the input, and the same gradients of all operations,
   upstream and of all parameters but the weights. *)
Theorem T10_isolation X Z (n : network F X Z) loss_gradient (s s' : storage n) x :
  (step loss_gradient s x).1 = (step loss_gradient s' x).1
  /\ without_weights (step loss_gradient s x).2 = without_weights (step loss_gradient s' x).2.
Proof.
rewrite /step; have [] := forward_pass_exact s s' x.
case: (forward_pass s x) => z t; case: (forward_pass s' x) => z' t' /= <- same.
have := backward_pass_exact (loss_gradient z) same.
by case: (backward_pass t _) => dx g; case: (backward_pass t' _) => dx' g' /= [-> ->].
Qed.

(* And the weight gradients: those of the exact step, with the stored operand in place of the operand. *)
Fixpoint with_stored_operands X Z (n : network F X Z) : storage n -> X -> gradients n -> gradients n :=
  match n as n in network _ X Z return storage n -> X -> gradients n -> gradients n with
  | Identity _ => fun _ _ g => g
  | Chain _ _ _ l n => fun s x g =>
      (GradientsOf (grad_output g.1) (grad_input g.1) (grad_other g.1)
        (weight_gradient l (s.1 (operand l x)) (grad_output g.1)),
      with_stored_operands s.2 (forward l x) g.2)
  end.

Theorem T10_weight_gradients X Z (n : network F X Z) loss_gradient (s : storage n) x :
  (step loss_gradient s x).2
  = with_stored_operands s x (step loss_gradient (exact_storage n) x).2.
Proof.
rewrite /step; have [] := forward_pass_exact s (exact_storage n) x.
case pass: (forward_pass s x) => [z t]; case exact_pass: (forward_pass _ x) => [z' t'] /= <- _.
move: (loss_gradient z) => g.
have -> : t = (forward_pass s x).2 by rewrite pass.
have -> : t' = (forward_pass (exact_storage n) x).2 by rewrite exact_pass.
suff : (backward_pass (forward_pass s x).2 g).2
    = with_stored_operands s x (backward_pass (forward_pass (exact_storage n) x).2 g).2.
  by case: (backward_pass _ g) => dx d; case: (backward_pass _ g).
elim: n s x g {t t' z z' pass exact_pass loss_gradient} => [X' | X' Y Z' l n hypothesis] //= s x g.
have [_ same_kept] := forward_pass_exact s.2 (exact_storage n) (forward l x).
have [same_upstream _] := backward_pass_exact g same_kept.
have := hypothesis s.2 (forward l x) g.
case: (forward_pass s.2 _) same_upstream => z t; case: (forward_pass _ _) => z' t' /=.
by case: (backward_pass t g) => dy rest; case: (backward_pass t' g) => dy' rest' /= -> ->.
Qed.

End Step.

(* ---- T13 ---- *)

Section Error.
Variable R : realFieldType.

(* The squared distance of two gradients: of all weights and of all other parameters. *)
Fixpoint squared_distance X Z (n : network R X Z) : gradients n -> gradients n -> R :=
  match n as n in network _ X Z return gradients n -> gradients n -> R with
  | Identity _ => fun _ _ => 0
  | Chain _ _ _ l n => fun g g' =>
      energy (fun i => grad_weight g.1 i - grad_weight g'.1 i)
      + energy (fun i => grad_other g.1 i - grad_other g'.1 i)
      + squared_distance g.2 g'.2
  end.

(* T9 for every operation. *)
Fixpoint linear_in_operands X Z (n : network R X Z) : Prop :=
  match n with
  | Identity _ => True
  | Chain _ _ _ l n =>
      (forall (A stored : operand_index l -> R) G i, weight_gradient l A G i - weight_gradient l stored G i
        = weight_gradient l (fun j => A j - stored j) G i)
      /\ linear_in_operands n
  end.

(* |D_l(E_l, G_l)|^2 of every operation, with G_l from the exact step. *)
Fixpoint weight_errors X Z (n : network R X Z) : storage n -> X -> gradients n -> seq R :=
  match n as n in network _ X Z return storage n -> X -> gradients n -> seq R with
  | Identity _ => fun _ _ _ => [::]
  | Chain _ _ _ l n => fun s x g =>
      energy (weight_gradient l (fun j => operand l x j - s.1 (operand l x) j) (grad_output g.1))
      :: weight_errors s.2 (forward l x) g.2
  end.

Lemma squared_distance_with_stored_operands X Z (n : network R X Z) (s : storage n) x g : linear_in_operands n ->
  squared_distance (with_stored_operands (exact_storage n) x g) (with_stored_operands s x g)
  = \sum_(e <- weight_errors s x g) e.
Proof.
elim: n s x g => [X' | X' Y Z' l n hypothesis] s x g /=; first by rewrite big_nil.
case=> linear /hypothesis -> /=; rewrite big_cons; congr (_ + _).
rewrite [X in _ + X]big1 ?addr0; last by move=> i _; rewrite subrr expr0n.
by apply: eq_energy => i; rewrite linear.
Qed.

(* |grad f - grad~ f|^2 is the sum of |D_l(E_l, G_l)|^2 over the layers. *)
Theorem T13_network X Z (n : network R X Z) loss_gradient (s : storage n) x : linear_in_operands n ->
  let: exact := (step loss_gradient (exact_storage n) x).2 in
  squared_distance exact (step loss_gradient s x).2 = \sum_(e <- weight_errors s x exact) e.
Proof.
move=> linear; rewrite (T10_weight_gradients _ s) {1}(T10_weight_gradients loss_gradient (exact_storage n)).
exact: squared_distance_with_stored_operands.
Qed.

(* With a bound for every layer. *)
Theorem T13_bound X Z (n : network R X Z) loss_gradient (s : storage n) x (bounds : seq R) :
  linear_in_operands n ->
  let: exact := (step loss_gradient (exact_storage n) x).2 in
  all2 (fun e b => e <= b) (weight_errors s x exact) bounds ->
  squared_distance exact (step loss_gradient s x).2 <= \sum_(b <- bounds) b.
Proof.
move=> linear; rewrite T13_network //.
elim: (weight_errors _ _ _) bounds => [|e errors hypothesis] [|b bounds] //=.
by case/andP => e_b /hypothesis; rewrite !big_cons; apply: ler_add.
Qed.

(* Where layers share one weight, the error of its gradient is the sum of theirs: then the bounds themselves add up. *)
Theorem T13_shared (I L : finType) (e : L -> I -> R) (b : L -> R) :
  (forall l, 0 <= b l) -> (forall l, energy (e l) <= b l ^+ 2) ->
  energy (fun i => \sum_l e l i) <= (\sum_l b l) ^+ 2.
Proof.
move=> b_ge0 bound; rewrite expr2 sum_product.
have -> : energy (fun i => \sum_l e l i) = \sum_l \sum_l' inner (e l) (e l').
  rewrite /energy /inner; under [RHS]eq_bigr do rewrite exchange_big.
  by rewrite exchange_big; apply: eq_bigr => i _; rewrite expr2 sum_product.
apply: ler_sum => l _; apply: ler_sum => l' _; apply: le_trans (ler_norm _) _.
rewrite -(@ler_pexpn2r _ 2) ?nnegrE ?normr_ge0 ?mulr_ge0 // real_normK ?num_real // exprMn.
apply: le_trans (cauchy_schwarz _ _) _; apply: ler_pmul => //; exact: energy_ge0.
Qed.

End Error.

(* ---- Instances ---- *)

Section Instances.
Variable R : realFieldType.

(* An operation without a weight: it stores no operand, and keeps what its backward needs exactly. A nonlinearity
   with its slopes, pooling with its argmax, a normalization, a change of shape. *)
Definition weightless (X Y K : Type) (f : X -> Y) (keep : X -> K) (backward : K -> Y -> X) : operation R X Y :=
  @Operation R X Y void_finType void_finType void_finType K
    f (fun _ i => match i with end) keep backward (fun _ _ i => match i with end) (fun _ _ i => match i with end).

Definition elementwise (I : finType) (f slope : R -> R) : operation R (I -> R) (I -> R) :=
  weightless (fun x i => f (x i)) (fun x i => slope (x i)) (fun slopes g i => slopes i * g i).

Definition linear_operation (P I O : finType) (W : O -> I -> R) (b : O -> R) :
    operation R (P -> I -> R) (P -> O -> R) :=
  @Operation R (P -> I -> R) (P -> O -> R) (prod_finType P I) (prod_finType O I) O unit
    (linear W b) (fun A mi => A mi.1 mi.2) (fun=> tt)
    (fun _ G => linear_input_gradient W G) (fun _ G => linear_bias_gradient G)
    (fun A G oi => linear_weight_gradient (fun m i => A (m, i)) G oi.1 oi.2).

Section Convolution.
Variables (batch : finType) (groups ins outs : nat) (h w : axis).

Definition conv_operation (W : weight R groups ins outs h w) (b : 'I_(groups * outs) -> R) :
    operation R (activation R batch groups ins h w) (output R batch groups outs h w) :=
  @Operation R (activation R batch groups ins h w) (output R batch groups outs h w)
    [finType of batch * 'I_(groups * ins) * 'I_(pixels h) * 'I_(pixels w)]
    [finType of 'I_(groups * outs) * 'I_ins * 'I_(taps h) * 'I_(taps w)] [finType of 'I_(groups * outs)] unit
    (conv W b) (fun A p => A p.1.1.1 p.1.1.2 p.1.2 p.2) (fun=> tt)
    (fun _ G => conv_input_gradient W G) (fun _ G => conv_bias_gradient G)
    (fun A G k => conv_weight_gradient (fun n c y x => A (n, c, y, x)) G k.1.1.1 k.1.1.2 k.1.2 k.2).

End Convolution.

(* T9 for each of them. *)
Theorem T13_weightless_linear_in_operand X Y K (f : X -> Y) (keep : X -> K) backward A stored G i :
  let l := weightless f keep backward in
  weight_gradient l A G i - weight_gradient l stored G i = weight_gradient l (fun j => A j - stored j) G i.
Proof. by case: i. Qed.

Theorem T13_linear_linear_in_operand (P I O : finType) (W : O -> I -> R) b A stored (G : P -> O -> R) i :
  weight_gradient (linear_operation P W b) A G i - weight_gradient (linear_operation P W b) stored G i
  = weight_gradient (linear_operation P W b) (fun j => A j - stored j) G i.
Proof. exact: T9_linear_error. Qed.

Theorem T13_conv_linear_in_operand (batch : finType) groups ins outs h w W b A stored G i :
  let l := @conv_operation batch groups ins outs h w W b in
  weight_gradient l A G i - weight_gradient l stored G i = weight_gradient l (fun j => A j - stored j) G i.
Proof. exact: T9_conv_error. Qed.

(* So the hypothesis of T13 is met: for instance by convolution, anything without a weight, linear layer. *)
Theorem T13_hypothesis_is_met (batch P I O : finType) groups ins outs h w W b K
    (f : output R batch groups outs h w -> P -> I -> R) (keep : _ -> K) backward (W' : O -> I -> R) b' :
  linear_in_operands
    (Chain (@conv_operation batch groups ins outs h w W b)
      (Chain (weightless f keep backward)
        (Chain (linear_operation P W' b') (Identity R (P -> O -> R))))).
Proof.
split; first exact: T13_conv_linear_in_operand.
split; first exact: T13_weightless_linear_in_operand.
by split; first exact: T13_linear_linear_in_operand.
Qed.

(* T11 and T12 as the bounds of [T13_bound]. *)
Theorem T13_linear_bound (P I O : finType) (W : O -> I -> R) b (E : P * I -> R) (G : P -> O -> R) g2 :
  spectral_bound G g2 -> energy (weight_gradient (linear_operation P W b) E G) <= g2 * energy E.
Proof.
move=> /spectral_bound_transpose bound.
rewrite -(matrix_energy_vector (linear_weight_gradient (fun m i => E (m, i)) G)).
have -> : energy E = matrix_energy (fun m i => E (m, i)).
  by rewrite matrix_energy_vector; apply: eq_energy => -[].
exact: matrix_energy_product_left.
Qed.

Theorem T13_conv_bound (batch : finType) groups ins outs h w W b
    (E : batch * 'I_(groups * ins) * 'I_(pixels h) * 'I_(pixels w) -> R) (G : output R batch groups outs h w) g2 :
  (forall g, spectral_bound (group_matrix G g) (g2 g)) ->
  energy (weight_gradient (@conv_operation batch groups ins outs h w W b) E G)
  <= \big[Num.max/0]_g g2 g * ((maximum_multiplicity h w)%:R * energy E).
Proof.
move=> bounds; have energy4 (I J K L : finType) (x : I * J * K * L -> R) :
    energy x = \sum_i \sum_j \sum_k \sum_l x (i, j, k, l) ^+ 2.
  by rewrite !pair_big; apply: eq_bigr => -[[[]]].
case/andP: (T12_bound bounds (fun n c y x => E (n, c, y, x))) => first second.
rewrite [energy E]energy4 -/(activation_energy (fun n c y x => E (n, c, y, x))).
by rewrite energy4; apply: le_trans first second.
Qed.

End Instances.
