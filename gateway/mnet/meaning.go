package mnet

import "strings"

// meanings are the faults of section 8 in words, for those that call.
var meanings = map[int]string{
	FaultNoSession:       "the peer knows no session for this token and browser",
	FaultSessionTimedOut: "the token was redeemed too late",
	FaultUserMismatch:    "the session at the peer belongs to another user",
	FaultParameters:      "the method wants other parameters",

	702:                 "the user may not go to other sites",
	704:                 "networking is switched off at the peer",
	705:                 "the peer lacks the file of the method",
	706:                 "the peer lacks the function of the method",
	707:                 "the peer has the method, but does not publish its service to us",
	708:                 "the peer lacks the class of the method",
	FaultNoCertificate:  "the peer has no certificate of ours",
	FaultBadSignature:   "our signature does not fit the certificate that the peer has of us",
	FaultNotSigned:      "the call was not signed",
	712:                 "the method stumbled over an error in PHP",
	FaultMethodName:     "the name of the method is malformed",
	5011:                "the peer could not make an account for the learner",
	5012:                "the peer has no such course",
	5013:                "the peer does not offer this course to us",
	5014:                "the peer does not know the learner",
	5017:                "the course has no MNet enrolment",
	5018:                "MNet enrolments are not installed at the peer",
	5019:                "the peer could not enrol the learner",
	5020:                "the peer could not end the enrolment",
	5021:                "the user name is empty",
	FaultUnknown:        "the peer refuses for a reason that MNet has no code for",
	FaultNoMethod:       "the peer has no such method for us: it does not exist, or its service is not published to us",
	FaultNoSystemMethod: "the peer has no such system method",
	FaultNotImplemented: "the peer knows the system method by name only",
	FaultUnknownPeer:    unknownPeerMeaning,
	FaultPlaintext:      "the call was not sealed",
	7022:                "the call was not signed",
	FaultNotOpened:      notOpenedMeaning,
	7024:                "the call was not sealed",
	FaultNewKey:         "the call was sealed for an old key of the peer; the text is its new certificate",
	7026:                "our key is another one than the peer has, and it could not fetch ours",

	6000: "the peer could not set up its networking",
	6003: unknownPeerMeaning,
	6004: "the peer could not verify our signature",
	6005: "the peer could not verify our signature",
	6006: "the peer could not verify our signature",
	6010: "the peer has no such method for us",
	6011: "the peer has no such method for us",
	6012: "networking is switched off at the peer",
	6013: "the peer goes by another wwwroot than the one that was called",
}

const (
	unknownPeerMeaning = "the peer does not know our wwwroot"
	// A Moodle without RC4 answers like one without the key (section 9).
	notOpenedMeaning = "the peer cannot open the call: it was sealed for a key that it no longer has, or its OpenSSL has no RC4"
)

// Meaning says what a fault means to whoever called (section 8), as far as is
// known: of code 0 and others it is empty.
func (f *Fault) Meaning() string {
	switch {
	case f.UnknownPeer():
		return unknownPeerMeaning
	case f.Code == FaultNewKey && !strings.Contains(f.String, "-----BEGIN CERTIFICATE-----"):
		return notOpenedMeaning // Mahara's way (section 3.5)
	}
	return meanings[f.Code]
}

// UnknownPeer reports whether the peer does not know the caller's wwwroot.
// Moodle 4 stumbles over the text of 7020 and sends an error about that
// instead, with code 0.
func (f *Fault) UnknownPeer() bool {
	return f.Code == FaultUnknownPeer || f.Code == 6003 ||
		f.Code == FaultOther && strings.Contains(f.String, "Cache definition core/string requires simple keys")
}
