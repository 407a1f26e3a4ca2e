(* What the check has to refuse: a theorem that rests on a lemma without a proof. It is no part of the development. *)

From mathcomp Require Import all_ssreflect all_algebra.

Lemma left_open (R : realFieldType) (a b : R) : (a <= b)%R.
Proof.
Admitted.

Theorem rests_on_it (R : realFieldType) (a : R) : (a <= 0)%R.
Proof. exact: left_open. Qed.
