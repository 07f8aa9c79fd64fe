//! All canaries.
//!
//! A canary is planted by `canary!("name")` in the sources of `ring` or `recovery`. Tests compare this list with the sources
//! and with the table in `docs/TESTING.md`, both ways.

use super::canary::{Canary, Ends};
use super::instrument::Program::{Models, Recovery, RecoveryIt, Ring, RingIt};
use super::instrument::{Instrument, model, test};

const fn canary(name: &'static str, bug: &'static str, by: Instrument, says: &'static str) -> Canary {
    Canary { name, bug, by, ends: Ends::Says(says), harmless: false }
}

const fn hang(name: &'static str, bug: &'static str, by: Instrument, seconds: u64) -> Canary {
    Canary { name, bug, by, ends: Ends::Hangs(seconds), harmless: false }
}

/// A row of the table in `docs/TESTING.md` for each canary; `files` tells where it is planted.
pub(crate) fn rows(files: &dyn Fn(&str) -> Vec<String>) -> String {
    let row = |canary: &Canary| {
        let files: Vec<String> = files(canary.name).iter().map(|file| format!("`{file}`")).collect();
        let short = canary.by.short();
        let (program, test) = short.split_once(' ').unwrap_or_default();
        let (test, case) =
            test.split_once(' ').map_or((test, String::new()), |(test, case)| (test, format!(" {case}")));
        let how = match canary.ends {
            Ends::Says(_) => "",
            Ends::Hangs(_) => ", which hangs",
        };
        format!("| `{}` | {} | {} | {program}: `{test}`{case}{how} |\n", canary.name, canary.bug, files.join(" "))
    };
    CATALOGUE.iter().map(row).collect()
}

/// The canaries, by what they attack.
pub(super) const CATALOGUE: &[Canary] = &[
    // What a record is.
    canary(
        "publish-before-payload",
        "the position is published before the payload is written",
        test(Models, "model::publish::publish_and_release"),
        "Concurrent read and write accesses",
    ),
    canary(
        "no-release",
        "stores that publish are relaxed",
        test(Models, "model::publish::publish_and_release"),
        "Concurrent read and write accesses",
    ),
    canary(
        "no-acquire",
        "loads of what was published are relaxed",
        test(Models, "model::publish::publish_and_release"),
        "Concurrent read and write accesses",
    ),
    canary(
        "batch-in-pieces",
        "records of a batch become visible one by one",
        test(RingIt, "roundtrip::a_batch_is_there_as_a_whole_or_not_at_all"),
        "before its batch was published",
    ),
    canary(
        "given-up-kept",
        "a batch that was dropped is published with the next record",
        test(Models, "model::batch::a_batch_is_taken_without_a_break"),
        "not whole",
    ),
    canary(
        "checksum-not-verified",
        "a record passes whatever its checksum is",
        test(RingIt, "damage::every_flipped_bit_of_a_record_costs_that_record_alone"),
        "right: [1, 1, 1, 1",
    ),
    canary(
        "position-left-out",
        "the position is not part of the checksum",
        test(Ring, "checksum::tests::every_field_counts"),
        "assertion `left != right` failed",
    ),
    canary(
        "segment-left-out",
        "the segment's id is not part of the checksum",
        test(Ring, "checksum::tests::every_field_counts"),
        "assertion `left != right` failed",
    ),
    canary(
        "length-trusted",
        "a length is believed before its record was verified",
        test(RingIt, "damage::every_flipped_bit_of_a_record_costs_that_record_alone"),
        "BufferTooSmall",
    ),
    canary(
        "length-unbounded",
        "a length may reach beyond what was published, and beyond the ring",
        test(Ring, "record::tests::what_reaches_beyond_its_place_is_not_plausible"),
        "beyond what was published",
    ),
    canary(
        "double-fetch",
        "what is handed out was read again after it had been verified",
        test(Models, "model::hostile::a_payload_changes_while_it_is_read"),
        "a payload that was never pushed",
    ),
    canary(
        "limit-not-enforced",
        "a record may be longer than the channel permits",
        test(RingIt, "roundtrip::too_long_a_record_is_refused_with_both_numbers"),
        "TooLarge { len: 101, limit: 100 }",
    ),
    canary(
        "wrap-marker-omitted",
        "no wrap marker is written before the end of the ring",
        test(RingIt, "fixtures::real::wrapped"),
        "the writer's own cursor",
    ),
    // Where writer and readers stand.
    canary(
        "sequence-not-checkpointed",
        "a checkpoint has the sequence number of the one before it",
        test(RecoveryIt, "life::sequences_run_on_and_readers_drain_before_they_move"),
        "left: 0
 right: 5",
    ),
    canary(
        "checkpoint-late",
        "the position is published before its checkpoint",
        test(Models, "model::fence::the_position_has_its_checkpoint"),
        "a position without its checkpoint",
    ),
    canary(
        "one-checkpoint",
        "both checkpoints are written to one place",
        test(Models, "model::fence::the_position_has_its_checkpoint"),
        "a position without its checkpoint",
    ),
    canary(
        "position-not-vouched",
        "a position is gone by without a checkpoint that vouches for it",
        test(RingIt, "damage::a_flipped_position_never_delivers_what_was_never_published"),
        "right: Ok(Empty)",
    ),
    canary(
        "dead-end-at-position",
        "a dead writer's records end at its position, whatever its checkpoints say",
        test(RecoveryIt, "attacks_memory::a_flipped_bit_in_a_dead_writers_position_costs_nothing"),
        "1 records, bit 5",
    ),
    canary(
        "reader-run-over",
        "the writer does not look where its readers are",
        test(RingIt, "roundtrip::an_absent_durable_reader_holds_the_writer_back_and_a_dead_ephemeral_one_does_not"),
        "nothing holds it back",
    ),
    canary(
        "claim-not-bounded",
        "a reader is believed that says to have read what was not published yet",
        test(RingIt, "hostile::what_a_hostile_reader_said_when_it_was_alone_costs_no_newcomer_a_record"),
        "reason: Overrun",
    ),
    canary(
        "living-reader-reclaimed",
        "the slot of a living reader is taken back",
        test(
            RecoveryIt,
            "attacks_readers::a_living_ephemeral_reader_that_still_drains_keeps_its_place_against_the_writer",
        ),
        "nothing holds it back",
    ),
    canary(
        "durable-reader-reclaimed",
        "the slot of an absent durable reader is taken back",
        test(RingIt, "roundtrip::an_absent_durable_reader_holds_the_writer_back_and_a_dead_ephemeral_one_does_not"),
        "nothing holds it back",
    ),
    canary(
        "elders-ignored",
        "a reader that still drains an older generation counts as dead",
        test(
            RecoveryIt,
            "attacks_readers::a_living_ephemeral_reader_that_still_drains_keeps_its_place_against_the_writer",
        ),
        "nothing holds it back",
    ),
    canary(
        "freed-slot-believed",
        "a slot that says free is believed, though its byte is held",
        test(RingIt, "damage::a_slot_freed_by_a_stray_store_still_holds_the_writer_back"),
        "writer.try_push(0, &[7; 100]).is_err()",
    ),
    canary(
        "doubt-means-ephemeral",
        "a reader whose kind is damaged counts as ephemeral",
        test(RecoveryIt, "attacks_readers::in_doubt_a_slot_is_durable"),
        "is_durable(slot)",
    ),
    canary(
        "rest-given-up",
        "behind a damaged record nothing is searched for",
        test(RingIt, "damage::every_flipped_bit_of_a_record_costs_that_record_alone"),
        "bit 0: Gap { from: 1, count: 3",
    ),
    canary(
        "gap-swallowed",
        "a damaged record is passed over without a word",
        test(RingIt, "damage::every_flipped_bit_of_a_record_costs_that_record_alone"),
        "(1, true), (2, false)",
    ),
    canary(
        "gap-miscounted",
        "one more record is reported lost than was",
        test(RingIt, "damage::every_flipped_bit_of_a_record_costs_that_record_alone"),
        "bit 0: Gap { from: 1, count: 2",
    ),
    canary(
        "redelivery-mark-forgotten",
        "a record that comes again does not say so",
        test(RingIt, "roundtrip::a_record_taken_but_not_released_comes_again_and_says_so"),
        "sequence: 1, record_type: 0, len: 1, redelivered: false",
    ),
    canary(
        "taken-not-noted",
        "a reader does not write down what it has handed out",
        test(RingIt, "roundtrip::a_record_taken_but_not_released_comes_again_and_says_so"),
        "sequence: 1, record_type: 0, len: 1, redelivered: false",
    ),
    // How a generation ends.
    canary(
        "fence-not-checked",
        "the writer does not look at the state after it has published",
        test(RecoveryIt, "life::a_superseded_writer_is_fenced_and_its_late_record_never_seen"),
        "Ok(1)",
    ),
    canary(
        "state-before-publish",
        "it looks before it publishes",
        model("model::fence::push_against_a_superseder", 2),
        "acknowledged beyond the end",
    ),
    canary(
        "late-push-acknowledged",
        "a push beyond the end is acknowledged",
        test(RecoveryIt, "life::a_superseded_writer_is_fenced_and_its_late_record_never_seen"),
        "Ok(1)",
    ),
    canary(
        "fenced-blindly",
        "a push in front of the end is refused",
        model("model::fence::push_against_a_superseder", 2),
        "fenced and delivered all the same",
    ),
    canary(
        "barrier-not-called",
        "who ends a generation issues no barrier",
        model("model::fence::push_against_a_superseder", 2),
        "acknowledged beyond the end",
    ),
    canary(
        "barrier-not-asked-for",
        "the state is changed before it is known whether a barrier can be had",
        test(RecoveryIt, "attacks_fence::without_a_barrier_a_living_writer_is_not_ended"),
        "left: FENCING
 right: OPEN",
    ),
    canary(
        "reader-state-first",
        "a reader looks at the state before the position",
        model("model::fence::push_against_a_superseder", 2),
        "fenced and delivered all the same",
    ),
    canary(
        "end-stored",
        "the end is stored, not swapped in",
        model("model::fence::push_against_a_superseder", 2),
        "acknowledged beyond the end",
    ),
    canary(
        "successor-stored",
        "the successor is stored, not swapped in",
        test(Models, "model::fence::one_successor"),
        "two successors",
    ),
    canary(
        "closed-is-drained",
        "a reader takes a closed generation for a drained one",
        test(Models, "model::close::close_against_a_reader_that_looks"),
        "closed with records left behind",
    ),
    canary(
        "end-not-clamped",
        "a reader goes beyond the end",
        test(RecoveryIt, "life::a_superseded_writer_is_fenced_and_its_late_record_never_seen"),
        "(1, [108, 97, 116, 101])",
    ),
    canary(
        "undecided-taken",
        "a reader goes on while the end is undecided",
        test(RecoveryIt, "attacks_fence::a_polling_reader_does_not_take_a_zombies_late_record"),
        "fenced and undecided: take nothing new",
    ),
    canary(
        "first-sequence-from-position",
        "numbers of the next generation begin at the position, not at the end",
        test(
            RecoveryIt,
            "attacks_fence::a_second_superseder_meets_what_the_zombie_and_the_first_left::case_2_the_first_had_decided",
        ),
        "left: 3
 right: 2",
    ),
    canary(
        "reader-fence-omitted",
        "no fence between a reader's looks at the position and at the state",
        model("model::fence::push_against_a_superseder", 3),
        "fenced and delivered all the same",
    ),
    // How one joins.
    canary(
        "joiner-fence-omitted",
        "no fence between registering and the second look",
        test(Models, "model::join::join_at_the_latest"),
        "a record that is not there",
    ),
    canary(
        "first-sample",
        "a reader begins where the writer was before it registered",
        test(Models, "model::join::join_at_the_latest"),
        "a record that is not there",
    ),
    canary(
        "provisional-ignored",
        "the writer does not count who is joining",
        test(Models, "model::join::join_at_the_latest"),
        "a record that is not there",
    ),
    canary(
        "second-look-omitted",
        "the writer takes a new limit without a second look at the table",
        test(Models, "model::join::join_at_the_oldest"),
        "a record that is not there",
    ),
    canary(
        "newcomer-ignored",
        "a newcomer in a known slot is taken for the one who left",
        test(Models, "model::join::a_slot_changes_hands"),
        "a record that is not there",
    ),
    canary(
        "state-sample-omitted",
        "a reader joins a generation that was ended",
        test(RecoveryIt, "attacks_fence::a_reader_that_joins_after_the_table_was_copied_joins_the_next_generation"),
        "`Result::unwrap_err()` on an `Ok` value: Reader",
    ),
    canary(
        "provisional-not-carried",
        "who is joining gets no place in the next generation",
        test(RecoveryIt, "attacks_fence::a_provisional_reader_that_lives_is_carried_and_a_dead_one_is_not"),
        "left: 0
 right: 1",
    ),
    canary(
        "twin-not-looked-for",
        "two newcomers with one durable name do not look for each other",
        test(RecoveryIt, "attacks_steps::two_claims_on_one_name_at_any_system_call_make_one_holder"),
        "two holders",
    ),
    canary(
        "claimed-from-above",
        "a durable name is claimed in the newest generation first",
        test(RecoveryIt, "attacks_readers::a_name_held_in_an_older_generation_is_held"),
        "it is free in generation 2, and yet held",
    ),
    // How one sleeps and is woken.
    canary(
        "waker-fence-omitted",
        "no fence between a change and the look at the sleeping flag",
        test(Models, "model::wake::data_wakes_the_reader"),
        "deadlock",
    ),
    canary(
        "sleeper-fence-omitted",
        "no barrier between the sleeping flag and the second look",
        test(Models, "model::wake::data_wakes_the_reader"),
        "deadlock",
    ),
    canary(
        "bell-in-two-steps",
        "a bell is turned by a load and a store",
        model("model::wake::two_ringers_of_one_bell", 2),
        "deadlock",
    ),
    canary(
        "wake-forgotten",
        "the bell is turned and nobody woken",
        test(Models, "model::wake::data_wakes_the_reader"),
        "deadlock",
    ),
    canary(
        "sleeping-flag-kept",
        "the waker leaves the sleeping flag as it is",
        test(RecoveryIt, "attacks_memory::a_killed_sleeper_costs_one_wake_up"),
        "cleared by the waker, not counted",
    ),
    canary(
        "bell-may-be-zero",
        "a bell of zeros, which nobody rings, is slept on for long",
        test(Ring, "wait::tests::nobody_sleeps_long_on_a_bell_of_zeros_or_without_a_barrier"),
        "left: [100ms, 100ms, 2ms]",
    ),
    // Memory and files.
    canary(
        "poison-ignored",
        "memory that was cut away is taken for memory that is there",
        test(RecoveryIt, "life::a_cut_after_the_close_is_told_with_the_exact_loss"),
        "cut to 4096",
    ),
    canary(
        "checkpoint-unchecked",
        "a checkpoint is believed whatever its check is",
        test(RingIt, "fixtures::findings_are_those_of_the_manifest"),
        "flipped-cursor.ring",
    ),
    canary(
        "fields-trusted",
        "impossible numbers in an identity are believed",
        test(RecoveryIt, "attacks_refusals::what_is_no_segment_of_ours_is_not_attached::case_10"),
        "capacity no power of two",
    ),
    canary(
        "size-not-checked",
        "a file's size is not compared with its identity",
        test(RecoveryIt, "attacks_refusals::what_is_no_segment_of_ours_is_not_attached::case_07"),
        "cut, Reader: cannot attach: mmap",
    ),
    canary(
        "identity-not-rechecked",
        "a writer does not look whether its segment was cut or damaged",
        test(RecoveryIt, "life::a_writer_that_heals_lost_memory_does_not_come_back_after_being_superseded"),
        "writer.tend().unwrap()",
    ),
    canary(
        "not-reserved",
        "memory is not reserved with `fallocate`",
        test(Ring, "sys::file::tests::reserved_means_no_holes"),
        "0 blocks",
    ),
    canary(
        "guard-off",
        "the guard against SIGBUS is not installed",
        test(Ring, "sys::sigbus::tests::ours_is_survived_and_noticed"),
        "is_installed()",
    ),
    canary(
        "one-page-replaced",
        "only the page that was lost is replaced",
        test(Ring, "sys::sigbus::tests::the_whole_is_replaced_not_only_the_page_that_was_lost"),
        "nothing of the file is left",
    ),
    canary(
        "handlers-not-waited-for",
        "a mapping goes while a handler works on it",
        test(Ring, "sys::sigbus::tests::dropping_waits_for_a_handler_in_flight"),
        "unmapped under a handler",
    ),
    canary(
        "mapping-inherited",
        "a fork inherits the mapping",
        test(Ring, "sys::map::tests::a_forked_child_has_no_mapping_and_unmaps_nothing"),
        "SIGSEGV",
    ),
    canary(
        "all-writable",
        "everything is mapped writable for everybody",
        test(Ring, "sys::map::tests::a_store_outside_what_is_ours_kills_at_once"),
        "the stray store went through",
    ),
    canary(
        "process-locks",
        "role locks are the process's, not the descriptor's",
        test(Ring, "sys::lock::tests::closing_another_descriptor_of_the_file_drops_nothing"),
        "left: Nobody
 right: Exclusive",
    ),
    canary(
        "inherited-over-exec",
        "a program that is executed inherits the locks",
        test(Ring, "sys::file::tests::only_regular_trusted_files_are_opened_and_nothing_hangs"),
        "what is executed inherits its locks",
    ),
    canary(
        "leaked-lock-believed",
        "a lock that a fork has inherited counts as its dead owner's",
        test(RecoveryIt, "attacks_process::a_lock_inherited_by_a_forked_child_keeps_nobody_out"),
        "right: Leaked",
    ),
    canary(
        "zombie-counts-as-here",
        "a process that has ended and was not reaped counts as one that is here",
        test(RecoveryIt, "attacks_process::a_zombies_lock_that_a_forked_child_has_is_a_leak"),
        "right: Leaked",
    ),
    hang(
        "granted-lock-kept",
        "a standby keeps the lock that it was granted",
        test(Ring, "sys::park::tests::who_only_wants_to_learn_has_given_it_back_when_it_knows"),
        4,
    ),
    canary(
        "link-replaces",
        "a generation's name can be taken twice",
        test(Ring, "sys::file::tests::a_file_gets_its_name_whole_and_only_one_rival_wins"),
        "`Result::unwrap_err()` on an `Ok` value",
    ),
    canary(
        "symlink-followed",
        "symbolic links are followed",
        test(Ring, "sys::file::tests::only_regular_trusted_files_are_opened_and_nothing_hangs"),
        "OpenError::Symlink",
    ),
    canary(
        "kind-not-checked",
        "what is no regular file is opened",
        test(Ring, "sys::file::tests::only_regular_trusted_files_are_opened_and_nothing_hangs"),
        "`Result::unwrap_err()` on an `Ok` value: File",
    ),
    canary(
        "mode-not-checked",
        "a file that others may write to is opened",
        test(Ring, "sys::file::tests::only_regular_trusted_files_are_opened_and_nothing_hangs"),
        "`Result::unwrap_err()` on an `Ok` value: File",
    ),
    canary(
        "namespace-mode-not-checked",
        "a namespace that is open to others is opened",
        test(RecoveryIt, "attacks_refusals::a_namespace_that_is_not_ours_alone_is_refused"),
        "`Result::unwrap_err()` on an `Ok` value: Namespace",
    ),
    canary(
        "identity-checksum-skipped",
        "a damaged identity is believed",
        test(RingIt, "fixtures::findings_are_those_of_the_manifest"),
        "flipped-identity.ring",
    ),
    canary(
        "feature-bits-ignored",
        "features that this build does not know are ignored",
        test(RingIt, "fixtures::findings_are_those_of_the_manifest"),
        "feature.ring: expected [\"RW-SEG-FEATURES\"], found []",
    ),
    canary(
        "newer-major-read",
        "a newer layout is read as if it were ours",
        test(RingIt, "fixtures::findings_are_those_of_the_manifest"),
        "major.ring: expected [\"RW-SEG-MAJOR\"], found []",
    ),
    // Who follows.
    canary(
        "chain-not-bounded",
        "the chain of generations grows without bound",
        test(RecoveryIt, "life::the_chain_is_bounded"),
        "its limit is 3",
    ),
    canary(
        "superseded-unasked",
        "a living writer is followed without being asked to",
        test(RecoveryIt, "life::a_second_writer_is_told_who_owns_the_channel"),
        "`Result::unwrap_err()` on an `Ok` value: Writer",
    ),
    canary(
        "closed-is-followed",
        "a standby follows a writer that has closed",
        test(RecoveryIt, "life::standbys_go_home_when_the_channel_is_closed_or_they_are_cancelled"),
        "Elected(Writer",
    ),
    canary(
        "read-lock-is-a-writer",
        "a read lock on byte 0 counts as a writer's",
        test(RecoveryIt, "attacks_names::a_hostile_read_lock_on_byte_0_is_not_a_writer::case_1_before_the_death"),
        "leaked: false",
    ),
    canary(
        "quiet-is-stuck",
        "a writer that promised no beats counts as stuck",
        test(RecoveryIt, "attacks_names::a_quiet_writer_that_promised_no_beats_is_left_in_peace"),
        "Outcome::TimedOut",
    ),
    canary(
        "withdrawal-forgotten",
        "a rival that was not confirmed does not withdraw",
        test(RecoveryIt, "attacks_steps::a_rival_stopped_at_any_system_call_while_generations_pass_withdraws"),
        "it ended with 42",
    ),
    canary(
        "fenced-writer-comes-back",
        "a superseded writer succeeds itself unasked",
        test(RecoveryIt, "life::a_writer_that_heals_lost_memory_does_not_come_back_after_being_superseded"),
        "Err(SendError::Push(PushError::Fenced))",
    ),
    canary(
        "readers-not-carried",
        "readers get no place in the next generation",
        test(RecoveryIt, "life::a_durable_name_has_one_holder_and_keeps_its_place_over_generations"),
        "right: [0, 1, 2, 3, 4]",
    ),
    canary(
        "own-end-forgotten",
        "a writer that succeeds itself goes by the memory that it has lost",
        test(RecoveryIt, "attacks_memory::a_writer_that_heals_without_a_push_knows_its_end_and_its_readers"),
        "it knows where it ended",
    ),
    canary(
        "known-readers-forgotten",
        "a writer that succeeds itself forgets who was reading",
        test(RecoveryIt, "attacks_memory::a_writer_that_heals_without_a_push_knows_its_end_and_its_readers"),
        "whoever was reading has a place",
    ),
    canary(
        "lost-places-forgotten",
        "nobody remembers that a place was lost",
        test(RecoveryIt, "attacks_readers::an_absent_durable_reader_whose_card_is_damaged_is_told"),
        "Record { sequence: 3",
    ),
    canary(
        "reboot-ignored",
        "a generation of another boot is followed as if its writer had only died",
        test(RecoveryIt, "reboot::each_reboot_jumps_on"),
        "nobody knows where it ended",
    ),
    canary(
        "end-not-mended",
        "a followed generation without an end word is left at that",
        test(RecoveryIt, "attacks_memory::a_drained_generation_whose_end_word_is_damaged_is_unlinked"),
        "left: [\"00000001.ring\", \"00000002.ring\"]",
    ),
    canary(
        "removed-namespace-kept",
        "nobody notices that the namespace was removed and made again",
        test(RecoveryIt, "removed::who_waits_in_a_namespace_that_was_removed_is_told"),
        "Ok(false)",
    ),
    canary(
        "loss-on-the-way-swallowed",
        "a loss between two generations is not told",
        test(
            RecoveryIt,
            "attacks_memory::a_writer_whose_segment_is_cut_heals_itself_and_the_loss_is_exact::cut_4_4096",
        ),
        "gaps and records follow on",
    ),
    canary(
        "close-not-finished",
        "a close whose writer died inside it is never finished",
        test(RecoveryIt, "life::a_writer_that_dies_inside_its_close_has_closed"),
        "right: ([0], [Closed { generation: 1 }])",
    ),
    hang(
        "death-not-told",
        "a reader is not told that its writer is gone",
        test(RecoveryIt, "attacks_names::a_reader_learns_of_a_death_and_of_the_next_one"),
        5,
    ),
    canary(
        "hand-emptied-unasked",
        "a reader that goes over to the next generation releases what it has in hand",
        test(RecoveryIt, "life::what_is_in_hand_stays_in_hand_over_a_succession_a_loss_and_a_close"),
        "in a generation that was left",
    ),
    canary(
        "unknowable-is-broken",
        "a generation that could not be looked at counts as broken",
        test(RecoveryIt, "attacks_limits::a_call_that_fails_once_costs_nothing::case_1_of_a_successor"),
        "goes on at",
    ),
    canary(
        "newer-major-followed",
        "a generation of a newer layout is followed",
        test(RecoveryIt, "attacks_names::a_channel_of_a_newer_major_is_refused_and_left_alone::case_1_dead"),
        "`Result::unwrap_err()` on an `Ok` value: Writer",
    ),
    canary(
        "stuck-is-superseded-unasked",
        "a stuck writer is superseded although it is only to be reported",
        test(RecoveryIt, "attacks_process::a_stuck_writer_is_reported_and_left_alone"),
        "not reported but Elected",
    ),
    hang(
        "standby-waits-for-the-lock-alone",
        "a standby waits for the lock, and does not see that the channel has gone on",
        test(RecoveryIt, "attacks_names::a_standby_that_is_parked_on_a_zombie_follows_the_channel"),
        5,
    ),
    hang(
        "alarm-not-raised",
        "the thread beside a writer notices a cut segment, and tells nobody",
        test(
            RecoveryIt,
            "attacks_memory::a_writer_whose_segment_is_cut_heals_itself_and_the_loss_is_exact::cut_5_16383",
        ),
        5,
    ),
    hang(
        "move-not-told",
        "a reader is not told that another writer follows",
        test(RecoveryIt, "attacks_names::a_reader_learns_of_a_death_and_of_the_next_one"),
        5,
    ),
    canary(
        "predecessor-end-forgotten",
        "a generation does not say where the one before it ended",
        test(RecoveryIt, "life::sequences_run_on_and_readers_drain_before_they_move"),
        "left: None",
    ),
    canary(
        "born-open",
        "a generation is open before the one before it names it",
        test(RecoveryIt, "attacks_order::a_generation_is_open_only_after_it_was_confirmed"),
        "before it was confirmed",
    ),
    canary(
        "candidate-joined",
        "a generation is joined that was not confirmed",
        test(RecoveryIt, "attacks_steps::a_candidate_is_confirmed_before_it_is_joined"),
        "joined as a candidate",
    ),
    canary(
        "followed-by-name-alone",
        "a reader goes by the name of the next generation, whoever is named",
        test(RecoveryIt, "attacks_steps::a_reader_goes_by_the_successor_word_and_not_by_the_name"),
        "Restarted { old: 1, new: 2 }",
    ),
    canary(
        "done-before-move",
        "a reader leaves a generation before it has its place in the next",
        test(RecoveryIt, "attacks_order::a_reader_leaves_only_when_it_has_its_place_in_the_next_generation"),
        "left without a place to go to",
    ),
    canary(
        "damaged-place-dropped",
        "a place whose state is damaged is not carried over",
        test(RecoveryIt, "attacks_readers::a_flipped_bit_in_state_or_kind_does_not_make_a_durable_reader_vanish"),
        "its place was not carried",
    ),
    // What is taken away.
    canary(
        "drained-not-asked",
        "a generation is unlinked that readers still need",
        test(RecoveryIt, "life::sequences_run_on_and_readers_drain_before_they_move"),
        "right: [\"00000001.ring\", \"00000002.ring\"]",
    ),
    canary(
        "newer-major-tidied-away",
        "a generation of a newer layout is tidied away",
        test(RecoveryIt, "attacks_names::a_newer_generation_below_the_newest_is_not_tidied_away"),
        "right: [\"00000001.ring\", \"00000002.ring\"]",
    ),
    canary(
        "living-builder-swept",
        "a temporary name is swept though its builder lives",
        test(RecoveryIt, "attacks_names::a_temporary_name_of_a_living_builder_is_left_alone"),
        "path.exists()",
    ),
    canary(
        "living-birth-removed",
        "a birth is removed that is still going on",
        test(RecoveryIt, "watchdog::births_that_died_are_removed_and_one_that_goes_on_is_not"),
        "left: 2
 right: 1",
    ),
    canary(
        "retired-without-locks",
        "a channel is retired without its locks",
        test(RecoveryIt, "attacks_names::all_locks_or_none"),
        "watchdog.alone().unwrap().is_none()",
    ),
    canary(
        "presence-ignored",
        "a channel is retired that standbys wait for",
        test(RecoveryIt, "watchdog::a_parked_standby_is_somebody"),
        "right: (Draining, Nothing)",
    ),
    canary(
        "durable-place-ignored",
        "a channel is retired that a durable reader will come back to",
        test(RecoveryIt, "watchdog::a_durable_reader_keeps_what_it_has_not_read_until_it_expires"),
        "right: (Draining, Nothing)",
    ),
    canary(
        "grace-ignored",
        "an orphan is taken away at once",
        test(RecoveryIt, "watchdog::an_orphan_is_taken_away_after_its_grace_and_not_before"),
        "right: (OrphanedInGrace, Nothing)",
    ),
    canary(
        "unknown-state-kept",
        "a watchdog never takes away what is of unknown state",
        test(RecoveryIt, "watchdog::an_orphan_of_unknown_state_is_taken_away_after_its_grace_and_not_before"),
        "(Corrupt, Nothing)",
    ),
    canary(
        "grace-not-marked",
        "grace is counted from the watchdog's own memory",
        test(RecoveryIt, "attacks_names::one_shot_watchdogs_share_one_grace"),
        "the grace began anew",
    ),
    canary(
        "old-mark-kept",
        "grace goes on although somebody has come back",
        test(RecoveryIt, "watchdog::somebody_coming_back_stops_the_grace"),
        "the mark was taken away",
    ),
    canary(
        "report-acts",
        "a watchdog that is to report acts",
        test(RecoveryIt, "watchdog::report_only_changes_nothing"),
        "right: (Orphaned, Nothing)",
    ),
    canary(
        "inode-not-rechecked",
        "a name is unlinked without a look whether it still is the same file",
        test(Recovery, "namespace::tests::a_name_is_removed_only_from_the_very_file_that_was_looked_at"),
        "another file's name was removed",
    ),
    canary(
        "unlocked-before-the-decision",
        "a watchdog lets go of the locks before it has decided and unlinked",
        test(RecoveryIt, "attacks_order::a_watchdog_holds_every_lock_when_it_decides_and_decides_before_it_unlinks"),
        "decided without every lock",
    ),
    canary(
        "retired-without-the-word",
        "a channel is unlinked without a decision that nobody follows",
        test(RecoveryIt, "attacks_order::a_watchdog_holds_every_lock_when_it_decides_and_decides_before_it_unlinks"),
        "unlinked before it was decided",
    ),
    canary(
        "foreign-files-removed",
        "a watchdog removes what is not ringward's",
        test(RecoveryIt, "watchdog::what_is_not_ours_is_not_touched"),
        "somebody's file was removed",
    ),
    Canary {
        name: "harmless",
        bug: "none: it shows that `chaos prove` can fail, and is tried only when asked for",
        by: test(Ring, "checksum::tests::every_field_counts"),
        ends: Ends::Says("assertion"),
        harmless: true,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::prove::planted_in;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    /// Each is planted, and each that is planted is listed.
    #[test]
    fn canaries_are_those_that_are_planted() {
        let listed: BTreeSet<&str> = CATALOGUE.iter().map(|canary| canary.name).collect();
        assert_eq!(listed.len(), CATALOGUE.len(), "a name stands twice");
        for name in &listed {
            assert!(!planted_in(Some(root()), name).is_empty(), "{name} is planted nowhere");
        }
        let mut open = vec![root().join("ring/src"), root().join("recovery/src")];
        let mut planted = BTreeSet::new();
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.file_name().is_some_and(|name| name != "canary.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let names = text.split("canary!(\"").skip(1).filter_map(|rest| rest.split('"').next());
                planted.extend(names.map(str::to_owned));
            }
        }
        let unknown: Vec<_> = planted.iter().filter(|name| !listed.contains(name.as_str())).collect();
        assert!(unknown.is_empty(), "planted and not listed: {unknown:?}");
        assert!(listed.len() > 40, "only {} are listed", listed.len());
    }

    #[test]
    fn the_table_in_the_documents_is_this_list() {
        let text = std::fs::read_to_string(root().join("docs/TESTING.md")).unwrap();
        let (_, table) = text.split_once("<!-- canaries -->").expect("a mark in front of the table");
        let (table, _) = table.split_once("<!-- /canaries -->").expect("a mark behind the table");
        let found: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
        let wanted = rows(&|name| planted_in(Some(root()), name));
        let wanted: Vec<&str> = wanted.lines().collect();
        assert_eq!(found, wanted, "docs/TESTING.md has another table than `chaos prove --list` prints");
    }
}
