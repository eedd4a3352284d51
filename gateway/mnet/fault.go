package mnet

import "fmt"

// Codes of the faults that Jumpgate sends (section 8).
const (
	FaultOther           = 0    // any other failure inside a method
	FaultNoSession       = 1    // user_authorise: no session for this token and User-Agent
	FaultSessionTimedOut = 2    // user_authorise: the token's 30 seconds are over
	FaultUserMismatch    = 3    // user_authorise: the session belongs to somebody else
	FaultParameters      = 17   // too few parameters ("Internal server error" at a Moodle)
	FaultNotPublished    = 707  // the method exists, but its service is only subscribed to, not published
	FaultNoCertificate   = 709  // we have no certificate of the caller
	FaultBadSignature    = 710  // the signature is not the caller's
	FaultNotSigned       = 711  // sealed, but not signed
	FaultMethodName      = 713  // the method name is malformed
	FaultUnknown         = 7000 // refused for a reason that MNet has no code for
	FaultNoMethod        = 7012 // no such method for this caller
	FaultNoSystemMethod  = 7018 // no such method below system/
	FaultNotImplemented  = 7019 // a system method that nobody implements
	FaultUnknownPeer     = 7020 // the envelope's wwwroot is nobody's here
	FaultPlaintext       = 7021 // the message is not sealed
	FaultNotOpened       = 7023 // none of our keys opens the message
	FaultNewKey          = 7025 // sealed for an archived key; String is the new certificate
)

// Fault is an XML-RPC fault: the answer of a peer that refuses, and the error
// by which a Method refuses.
type Fault struct {
	Code   int
	String string

	// Reason names, for a Server's Event, why a Method refused; it is not
	// sent. Empty means ReasonFault.
	Reason string

	// Unauthenticated is set on a fault that a Client received outside any
	// envelope: anybody between us and the peer may have written it.
	Unauthenticated bool

	proof *Signed // the answer that a Client found it in, if that is authenticated
}

// Error quotes the text, which is the peer's.
func (f *Fault) Error() string {
	if f.Unauthenticated {
		return fmt.Sprintf("unauthenticated fault %d: %.300q", f.Code, f.String)
	}
	return fmt.Sprintf("fault %d: %.300q", f.Code, f.String)
}
