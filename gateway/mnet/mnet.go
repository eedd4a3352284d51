// Package mnet is the wire of Moodle Networking: XML-RPC, the signed and
// sealed envelopes around it, the keys, the client and the dispatcher. Nothing
// outside this package knows any of it. Section numbers in comments refer to
// the protocol page.
//
// The wire protects little (sections 3.1, 3.2 and 3.4): wwwroot and timestamp
// are not signed, RC4 is malleable and never changes keys within a message,
// and stock peers check neither time nor repetition. What this package adds is
// said where it is added. RC4 and SHA-1 are used here because the peers speak
// nothing else; no other package may use them.
package mnet

import "errors"

// Limits of what is read from a peer.
const (
	MaxBody   = 1 << 20 // bytes of a document, in every layer
	MaxDepth  = 32      // values inside values
	MaxValues = 10_000  // values in one document
)

// maxWwwroot is the size of Moodle's mnet_host.wwwroot column, in bytes.
const maxWwwroot = 255

// ErrTooLarge reports a document or answer above MaxBody.
var ErrTooLarge = errors.New("document is larger than 1 MiB")
