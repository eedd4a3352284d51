// Package gateway is the domain of Jumpgate: wwwroots, peers, targets,
// identities and the decision where a jump may land. It is pure: no input or
// output, no clock, no state.
package gateway

// Rule names what decided. The names are stable: they appear in the trail,
// the command line, the metrics and the pages.
type Rule string

// Rules that allow.
const (
	RuleOK      Rule = "ok"       // nothing forbids it
	RuleEmpty   Rule = "empty"    // a missing or empty wantsurl means /
	RulePath    Rule = "path"     // a path of the peer
	RulePeerURL Rule = "peer-url" // an absolute URL of the peer, reduced to its path
)

// Rules that refuse a request before any target is judged.
const (
	RulePeerMissing   Rule = "peer-missing"   // neither hostwwwroot nor hostid (nor wr)
	RulePeerMalformed Rule = "peer-malformed" // a hostid that is no number
	RulePeerConflict  Rule = "peer-conflict"  // hostwwwroot, wr and hostid name different peers
	RulePeerUnknown   Rule = "peer-unknown"   // not on the allowlist
	RuleMNetOff       Rule = "mnet-off"       // MNet is switched off for the site
	RulePeerOff       Rule = "peer-off"       // on the allowlist, and switched off
	RulePeerExpired   Rule = "peer-expired"   // on the allowlist until a day that is over
	RulePeerGrant     Rule = "peer-grant"     // on the allowlist, but not granted sign-on
	RuleRepeated      Rule = "repeated"       // a parameter is given more than once
	RuleBadQuery      Rule = "bad-query"      // the query of the request cannot be read
	RuleQueryTooLong  Rule = "query-too-long" // over 16 KiB
	RuleNotNavigation Rule = "not-navigation" // a picture, frame, script or prefetch asks, not a learner
	RuleNoCookie      Rule = "no-cookie"      // the browser keeps no cookies, and could not be logged in
	RuleTooMany       Rule = "too-many"       // more jumps wait for a login than this address or site may have
	RuleRateUser      Rule = "rate-user"      // this learner has jumped too often
	RuleRateAddress   Rule = "rate-address"   // too many jumps come from this address
	RuleRatePeer      Rule = "rate-peer"      // too many jumps go to this peer
)

// Rules about where a jump comes from and who has signed its link. Those of
// signatures refuse only where one is needed.
const (
	RuleUnsigned           Rule = "unsigned"            // a link without a signature, where one is needed
	RuleSignatureMalformed Rule = "signature-malformed" // not the kind of token that signs a link
	RuleSignatureKey       Rule = "signature-key"       // by a key that the peer does not have
	RuleSignatureInvalid   Rule = "signature-invalid"   // not by the key that it names, or changed on the way
	RuleSignatureOther     Rule = "signature-other"     // for another link: another forum, home or page
	RuleSignatureExpired   Rule = "signature-expired"   // its time is over
	RuleSignatureTooLong   Rule = "signature-too-long"  // good for longer than we accept
	RuleSignatureRevoked   Rule = "signature-revoked"   // taken back
	RuleConfirmOver        Rule = "confirm-over"        // the page that asked is too old, or of another session
	RuleFormForeign        Rule = "form-foreign"        // another site sent a form of ours
)

// RuleUpstreamLocation stops a jump that was allowed: the Moodle behind, which
// makes the tokens, sends its learner somewhere else.
const RuleUpstreamLocation Rule = "upstream-location"

// Rules that refuse a target.
const (
	RuleTooLong        Rule = "too-long"         // over 2,048 bytes
	RuleControlByte    Rule = "control-byte"     // a raw byte below 0x21 or 0x7f, or an escaped control character
	RuleBackslash      Rule = "backslash"        // raw, or escaped in path or fragment
	RuleInvalidUTF8    Rule = "invalid-utf8"     // raw, or escaped in path or fragment
	RuleBadEscape      Rule = "bad-escape"       // a percent sign without two hexadecimal digits in path or fragment
	RuleTooManyLayers  Rule = "too-many-layers"  // escapes of escapes of escapes
	RuleNoSlash        Rule = "no-leading-slash" // neither a path nor an absolute URL
	RuleSchemeRelative Rule = "scheme-relative"  // begins with two slashes, in some layer
	RuleOpaque         Rule = "opaque"           // javascript:, data:, http:host and the like
	RuleUserinfo       Rule = "userinfo"         // user@host
	RuleForeignOrigin  Rule = "foreign-origin"   // an absolute URL of somebody else
	RuleOutsidePath    Rule = "outside-path"     // leaves the path of the peer's wwwroot
	RulePathNotAllowed Rule = "path-not-allowed" // outside the prefixes that the configuration allows for the peer, or below one that it denies
)

// Rules that refuse a user.
const (
	RuleUserRemote     Rule = "user-remote"      // the account lives at another home
	RuleUserLoginAs    Rule = "user-login-as"    // an administrator as somebody else
	RuleUserSuspended  Rule = "user-suspended"   //
	RuleUserDeleted    Rule = "user-deleted"     //
	RuleUserIncomplete Rule = "user-incomplete"  // no first name, last name or mail address: peers refuse such users
	RuleUserNotAllowed Rule = "user-not-allowed" // the configuration does not let this user jump to this peer
	RuleUserAccess     Rule = "user-access"      // the configuration does not let this user of that home use our site
	RuleUserUsername   Rule = "user-username"    // an account of a login provider without a name that a Moodle user could have
)

// Rules that refuse a learner whom we log in ourselves.
const (
	RuleHomeGrant      Rule = "home-grant"      // on the allowlist, but not as a home whose learners may come
	RuleTokenMalformed Rule = "token-malformed" // nothing that a home would make
	RuleTokenUsed      Rule = "token-used"      // it was brought before
	RuleTokenRefused   Rule = "token-refused"   // the home does not know it, or not any more
	RuleHomeFailed     Rule = "home-failed"     // the home does not answer, or not as it should
	RuleUserMalformed  Rule = "user-malformed"  // what the home says about the learner fits into no account
	RuleAccountMissing Rule = "account-missing" // the learner has no account here, and does not get one
	RuleAccountMail    Rule = "account-mail"    // an account here that is not theirs has their mail address
	RuleAccountRefused Rule = "account-refused" // the Moodle behind does not log the account in, or another one
)

// Rules that refuse a login at an OpenID provider.
const (
	RuleLoginMalformed Rule = "login-malformed" // the provider sent the browser back with an address that says nothing
	RuleLoginElsewhere Rule = "login-elsewhere" // it began in another browser, or this one keeps no cookies
	RuleLoginOver      Rule = "login-over"      // it took too long, or was completed before
	RuleLoginDenied    Rule = "login-denied"    // the provider says no
	RuleLoginInvalid   Rule = "login-invalid"   // what the provider says about it does not hold
)

// Probe reports whether the rule refuses what nobody writes by accident: an
// address that is made to look like one of a peer and to lead away from it.
// RulePeerUnknown is none by itself: the peer may have been one until yesterday.
func (r Rule) Probe() bool {
	switch r {
	case RuleControlByte, RuleBackslash, RuleTooManyLayers, RuleNoSlash, RuleSchemeRelative, RuleOpaque, RuleUserinfo, RuleForeignOrigin, RuleOutsidePath:
		return true
	}
	return false
}

// Rules about where the Moodle behind sends a browser.
const (
	RuleRedirectOwn       Rule = "redirect-own"       // to the site itself
	RuleRedirectPeer      Rule = "redirect-peer"      // below the wwwroot of a peer
	RuleRedirectAllowed   Rule = "redirect-allowed"   // to what redirects.allow has
	RuleRedirectForeign   Rule = "redirect-foreign"   // to another origin
	RuleRedirectScheme    Rule = "redirect-scheme"    // to something that is neither http nor https
	RuleRedirectMalformed Rule = "redirect-malformed" // nobody can tell for sure where to
)
