package gateway

// RuleMeaning is a rule in words.
type RuleMeaning struct {
	Rule    Rule
	About   string // what it decides about: one of the constants
	Allows  bool
	Meaning string // one line, lower case, without a full stop
}

// What rules decide about, in the order in which they are asked.
const (
	AboutRequest = "request"
	AboutTarget  = "target"
	AboutUser    = "user"
	AboutLogin   = "login"   // at an OpenID provider
	AboutLanding = "landing" // where the gateway logs in

	AboutRedirect = "redirect of the Moodle behind"
)

// Rules returns all rules in a fixed order: those that no configuration changes,
// and those by which what is configured refuses.
func Rules() []RuleMeaning { return append([]RuleMeaning{}, meanings...) }

// Meaning returns the rule in words; empty for one that does not exist.
func (r Rule) Meaning() string {
	for _, m := range meanings {
		if m.Rule == r {
			return m.Meaning
		}
	}
	return ""
}

var meanings = []RuleMeaning{
	{RuleQueryTooLong, AboutRequest, false, "the query of the jump or landing is over 16 KiB"},
	{RuleRepeated, AboutRequest, false, "a parameter of the jump or landing is given more than once"},
	{RuleBadQuery, AboutRequest, false, "the query of the jump or landing cannot be unescaped"},
	{RulePeerMissing, AboutRequest, false, "the jump or landing names no peer"},
	{RulePeerMalformed, AboutRequest, false, "the hostid of the jump is no number"},
	{RulePeerConflict, AboutRequest, false, "the jump names two different peers"},
	{RulePeerUnknown, AboutRequest, false, "the site that the jump or landing names is not on the allowlist"},
	{RuleMNetOff, AboutRequest, false, "MNet is switched off for the site"},
	{RulePeerOff, AboutRequest, false, "the peer is switched off (enabled: false)"},
	{RulePeerExpired, AboutRequest, false, "the last day of the peer (expires) is over"},
	{RulePeerGrant, AboutRequest, false, "the peer is not granted sign-on: it needs publish sso_idp and subscribe sso_sp"},
	{RuleNotNavigation, AboutRequest, false, "a picture, frame, script or prefetch asks, not a learner"},
	{RuleNoCookie, AboutRequest, false, "the browser keeps no cookies, and its learner could not be logged in"},
	{RuleUnsigned, AboutRequest, false, "the link has no signature, and unsigned_jumps or require_signed asks for one"},
	{RuleSignatureMalformed, AboutRequest, false, "the signature of the link is not the kind of token that signs a link"},
	{RuleSignatureKey, AboutRequest, false, "the link is signed with a key that the peer does not have"},
	{RuleSignatureInvalid, AboutRequest, false, "the signature of the link is not by the key that it names, or the link was changed"},
	{RuleSignatureOther, AboutRequest, false, "the signature is of another link: another forum, home or page"},
	{RuleSignatureExpired, AboutRequest, false, "the time of the signed link is over"},
	{RuleSignatureTooLong, AboutRequest, false, "the signed link is good for longer than max_link_life"},
	{RuleSignatureRevoked, AboutRequest, false, "the signed link was taken back (jumpgate link revoke)"},
	{RuleConfirmOver, AboutRequest, false, "the page that asked the learner is too old, or of another session"},
	{RuleFormForeign, AboutRequest, false, "another site filled in a form of ours, such as the question to a learner"},
	{RuleTooMany, AboutRequest, false, "more jumps wait for a login than an address or the site may have"},
	{RuleRateUser, AboutRequest, false, "the learner has jumped more often than jumps_per_user lets them"},
	{RuleRateAddress, AboutRequest, false, "more jumps come from the address than jumps_per_address lets through"},
	{RuleRatePeer, AboutRequest, false, "more jumps go to the peer than its rate, or jumps_per_peer, lets through"},
	{RuleUpstreamLocation, AboutRequest, false, "guard mode: the Moodle behind sends its learner somewhere else than was decided"},
	{RuleOK, AboutRequest, true, "nothing about the request forbids it"},

	{RuleTooLong, AboutTarget, false, "the target is over 2,048 bytes"},
	{RuleControlByte, AboutTarget, false, "a byte below 0x21 or 0x7f, or an escaped control character in path or fragment"},
	{RuleBackslash, AboutTarget, false, "a backslash, or an escaped one in path or fragment"},
	{RuleInvalidUTF8, AboutTarget, false, "the target is no UTF-8, or its path or fragment is none when unescaped"},
	{RuleNoSlash, AboutTarget, false, "neither a path that begins with a slash nor an absolute address"},
	{RuleSchemeRelative, AboutTarget, false, "begins with two slashes, in some layer of escapes"},
	{RuleOpaque, AboutTarget, false, "a scheme other than http and https, or one without two slashes"},
	{RuleUserinfo, AboutTarget, false, "a user name before the host"},
	{RuleForeignOrigin, AboutTarget, false, "an absolute address of somebody else than the peer and its aliases"},
	{RuleBadEscape, AboutTarget, false, "a percent sign without two hexadecimal digits in path or fragment"},
	{RuleTooManyLayers, AboutTarget, false, "escapes around escapes, more than 8 deep"},
	{RuleOutsidePath, AboutTarget, false, "leaves the path of the peer's wwwroot, in some layer of escapes"},
	{RulePathNotAllowed, AboutTarget, false, "outside allow_paths or within deny_paths of the peer, in some layer of escapes"},
	{RuleEmpty, AboutTarget, true, "no target is the peer's front page"},
	{RulePath, AboutTarget, true, "a path of the peer"},
	{RulePeerURL, AboutTarget, true, "an absolute address of the peer or an alias, which becomes its path"},

	{RuleUserRemote, AboutUser, false, "the account lives at another home, which alone can vouch for it"},
	{RuleUserLoginAs, AboutUser, false, "an administrator in a “log in as” session"},
	{RuleUserSuspended, AboutUser, false, "the account is suspended"},
	{RuleUserDeleted, AboutUser, false, "the account is deleted"},
	{RuleUserIncomplete, AboutUser, false, "no first name, last name or mail address"},
	{RuleUserNotAllowed, AboutUser, false, "roam, of the site or of the peer, does not let the user go there"},
	{RuleUserAccess, AboutUser, false, "access, of the user's home, does not let them use this site"},
	{RuleUserUsername, AboutUser, false, "an account of the login provider without a name that a Moodle user could have"},

	{RuleHomeGrant, AboutLanding, false, "the peer is not granted to send its learners here: it needs subscribe sso_idp"},
	{RuleTokenMalformed, AboutLanding, false, "the token is nothing that a home would make"},
	{RuleTokenUsed, AboutLanding, false, "the token was brought before"},
	{RuleTokenRefused, AboutLanding, false, "the home does not know the token, or not any more, or has made it for another browser"},
	{RuleHomeFailed, AboutLanding, false, "the home does not answer who it is, or not as it should"},
	{RuleUserMalformed, AboutLanding, false, "what the home says about the learner fits into no account"},
	{RuleAccountMissing, AboutLanding, false, "the learner has no account here, and auto_add_remote_users is existing"},
	{RuleAccountMail, AboutLanding, false, "an account here that is not theirs has their mail address"},
	{RuleAccountRefused, AboutLanding, false, "the Moodle behind does not log the account in, or has logged in another one"},

	{RuleLoginMalformed, AboutLogin, false, "the provider sent the browser back with an address that says nothing"},
	{RuleLoginElsewhere, AboutLogin, false, "it began in another browser, or this one keeps no cookies"},
	{RuleLoginOver, AboutLogin, false, "it took too long, or was completed before"},
	{RuleLoginDenied, AboutLogin, false, "the provider says no"},
	{RuleLoginInvalid, AboutLogin, false, "what the provider says about it does not hold"},

	{RuleRedirectOwn, AboutRedirect, true, "it leads to the site itself, or to its login provider"},
	{RuleRedirectPeer, AboutRedirect, true, "it leads below the wwwroot of a peer"},
	{RuleRedirectAllowed, AboutRedirect, true, "it leads to an address that redirects allow"},
	{RuleRedirectForeign, AboutRedirect, false, "it leads to another address: recorded, and stopped with mode enforce"},
	{RuleRedirectScheme, AboutRedirect, false, "it leads to something that is neither http nor https: likewise"},
	{RuleRedirectMalformed, AboutRedirect, false, "programs may differ about where it leads: likewise"},
}
