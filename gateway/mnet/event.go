package mnet

import (
	"net/netip"
	"time"

	"jumpgate/gateway"
)

// Reasons of an Event. They are stable: logs and metrics carry them. Methods
// add their own (Fault.Reason, Call.Note).
const (
	ReasonOK              = "ok"
	ReasonFault           = "fault"            // the method refused; see Event.Fault
	ReasonFailed          = "failed"           // the method failed; see Event.Err
	ReasonNotPost         = "not-post"         // another HTTP method than POST
	ReasonUnreadable      = "unreadable"       // the body did not arrive
	ReasonTooLarge        = "too-large"        // a body of more than MaxBody
	ReasonMalformed       = "malformed"        // neither an envelope nor XML-RPC, or not a proper one
	ReasonUnknownPeer     = "unknown-peer"     // the claimed wwwroot is nobody's
	ReasonNoCertificate   = "no-certificate"   // a known peer without a certificate
	ReasonLookupFailed    = "lookup-failed"    // Server.Peer failed
	ReasonBudget          = "budget"           // too many calls from this address or for this peer
	ReasonBusy            = "busy"             // no processor became free in time
	ReasonNotOpened       = "not-opened"       // sealed for none of our keys, or garbage
	ReasonNotSealed       = "not-sealed"       // a plain or merely signed call
	ReasonNotSigned       = "not-signed"       // sealed, but not signed
	ReasonWwwrootMismatch = "wwwroot-mismatch" // inner and outer wwwroot differ
	ReasonBadSignature    = "bad-signature"    // not signed with the pinned key
	ReasonTimestamp       = "timestamp"        // outside Server.Window
	ReasonReplay          = "replay"           // the message was seen before
	ReasonReplaysFailed   = "replays-failed"   // Server.Replays failed
	ReasonOldKey          = "old-key"          // sealed for an archived key
	ReasonMethodName      = "method-name"      // malformed
	ReasonUnknownMethod   = "unknown-method"   // nobody has it
	ReasonNotPublished    = "not-published"    // not granted to this peer
	ReasonParameters      = "too-few-parameters"
	ReasonPassed          = "passed"         // Server.Pass answered
	ReasonSigningFailed   = "signing-failed" // the answer could not be signed or sealed
	ReasonRelayed         = "relayed"        // passed on, by a Relay, to the Moodle behind, which answered
	ReasonNoAnswer        = "no-answer"      // passed on to it in vain
)

// Event is what became of one request to a Server or Relay. It holds no
// secrets: no parameters, tokens or keys.
type Event struct {
	Addr     netip.Addr
	Claimed  string        // the wwwroot that the envelope claims, unchecked, at most 255 bytes; may be empty
	Peer     *gateway.Peer // who that is on the allowlist; nil if nobody
	Verified bool          // the message was signed with the peer's key and is fresh
	Method   string        // as called; empty if it never came to that
	Status   int           // of HTTP
	Fault    *Fault        // what was answered; nil if none
	Reason   string        // one of the reasons above, or of the method
	Err      error         // details for the log, never sent to the peer; nil if there are none
	Duration time.Duration
}
