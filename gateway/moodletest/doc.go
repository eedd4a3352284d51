// Package moodletest holds stand-ins for two Moodle 4.5 sites: a Home, where
// the accounts live, and a Forum, which people of the home may read; and for a
// Mahara, where they keep portfolios. They are
// used by the demo and by end-to-end tests, and behave as real sites were
// seen to behave: the login form with its token and its testsession bounce,
// sessions in Redis in the format that PHP writes, jump, land and the XML-RPC
// calls between them, faults included.
//
// They read envelopes with parsers of their own, which know what the originals'
// parsers know and misread what those misread: an envelope of package mnet
// that a Moodle or a Mahara could not read fails a test. RC4 and the
// signatures alone are borrowed from package mnet, which the recorded messages
// hold to account; so is XML-RPC, save where Mahara writes or reads its own.
//
// What the stand-ins get wrong on purpose, because stock Moodle does: tokens
// are not consumed when redeemed and not bound to a peer, timestamps are not
// checked, replays are answered, a wantsurl is appended without a look, and a
// new key is taken from whoever sends one.
// They are for loopback and for tests, never for real accounts.
package moodletest
