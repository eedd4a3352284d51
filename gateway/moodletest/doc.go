// Package moodletest holds stand-ins for two Moodle 4.5 sites: a Home, where
// the accounts live, and a Forum, which people of the home may read. They are
// used by the demo and by end-to-end tests, and behave as real sites were
// seen to behave: the login form with its token and its testsession bounce,
// sessions in Redis in the format that PHP writes, jump, land and the XML-RPC
// calls between them, faults included.
//
// What the stand-ins get wrong on purpose, because stock Moodle does: tokens
// are not consumed when redeemed and not bound to a peer, timestamps are not
// checked, replays are answered, and a wantsurl is appended without a look.
// They are for loopback and for tests, never for real accounts.
package moodletest
