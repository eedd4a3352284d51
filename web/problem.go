package web

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"jumpgate/gateway"
)

// problem is what a learner is told, in plain words, about a request that
// does not end where it was meant to.
type problem struct {
	Status int
	Title  string
	Text   string // what happened
	Advice string // what to do about it
}

const (
	adviceLink  = "If the link came in a mail, tell the people who run the site that it came from; the details below help them."
	adviceAdmin = "If you think this is wrong, tell your administrator; the details below help them."
	adviceThere = "Allow cookies for this site and for the one that the link leads to, or open the link in another browser."
	adviceWait  = "Wait a minute, then follow the link again."
	adviceAgain = "Follow the link again. If that does not help, tell your administrator; the details below help them."
)

var (
	badLink = problem{http.StatusForbidden, "This link does not lead to a page",
		"The address inside the link is not one that we may send you to.", adviceLink}
	badRequest = problem{http.StatusBadRequest, "This link is damaged",
		"It does not say clearly where it leads. Perhaps it was cut off or changed on its way to you.",
		"Try to copy the whole link from the mail once more. " + adviceLink}
	unsigned = problem{http.StatusForbidden, "This link is not one that we can trust",
		"Your institution wants to know from the other site itself that the link is its own, and this one does not say so.", adviceLink}
	notYou = problem{http.StatusForbidden, "You cannot go there with this account", "", adviceAdmin}
	// Not a status of 5xx: a link that a teacher has put on a page must not make
	// whoever watches the gateway think that it is down.
	leadsAway = problem{http.StatusForbidden, "We stopped this redirect",
		"This site was about to send you to an address that cannot be read.",
		"Go back to the page that you came from. " + adviceAdmin}
)

// problems holds what differs from badLink, which every other rule that
// refuses a target gets.
var problems = map[gateway.Rule]problem{
	gateway.RulePeerMissing:   badRequest,
	gateway.RulePeerMalformed: badRequest,
	gateway.RulePeerConflict:  badRequest,
	gateway.RuleRepeated:      badRequest,
	gateway.RuleBadQuery:      badRequest,
	gateway.RuleQueryTooLong: {http.StatusBadRequest, "This link is too long",
		"A link to a page is never that long.", adviceLink},
	gateway.RulePeerUnknown: {http.StatusNotFound, "We do not know this site",
		"The link leads to a site that your institution is not connected with.", adviceAdmin},
	gateway.RuleMNetOff: {http.StatusForbidden, "The way to other sites is closed",
		"Your institution has switched off the connection to other sites.", adviceAdmin},
	gateway.RulePeerGrant: {http.StatusForbidden, "This site is closed to us at the moment",
		"Your institution knows the site that the link leads to, but sign-on between the two is not switched on.", adviceAdmin},
	gateway.RulePeerOff: {http.StatusForbidden, "This site is closed to us at the moment",
		"Your institution has switched off the connection to the site that the link leads to.", adviceAdmin},
	gateway.RulePeerExpired: {http.StatusForbidden, "This site is not open to us any more",
		"Your institution was connected with the site that the link leads to for a time, and that time is over.", adviceAdmin},
	gateway.RulePathNotAllowed: {http.StatusForbidden, "This page is not open to you",
		"Your institution lets you visit parts of the site that the link leads to, but not this one.", adviceAdmin},
	gateway.RuleNotNavigation: {http.StatusForbidden, "Please follow the link yourself",
		"A jump to another site takes place when you click on its link, not inside another page.", "Open the link in a window of its own."},
	gateway.RuleUnsigned:           unsigned,
	gateway.RuleSignatureMalformed: unsigned,
	gateway.RuleSignatureKey:       unsigned,
	gateway.RuleSignatureInvalid:   unsigned,
	gateway.RuleSignatureOther:     unsigned,
	gateway.RuleSignatureTooLong:   unsigned,
	gateway.RuleSignatureExpired: {http.StatusForbidden, "This link has expired",
		"It was good for some time, and that is over.", "Look for the page on the other site, or ask for a new link."},
	gateway.RuleSignatureRevoked: {http.StatusForbidden, "This link is no longer valid",
		"It was taken back.", "Look for the page on the other site, or ask for a new link."},
	gateway.RuleConfirmOver: {http.StatusForbidden, "This page is out of date",
		"It was open for too long, or somebody else has logged in since.", adviceAgain},
	gateway.RuleFormForeign: {http.StatusForbidden, "We did not take this",
		"It was sent to us by the page of another site, and not by one of our own.", adviceLink},
	gateway.RuleNoCookie: {http.StatusForbidden, "Your browser does not keep cookies",
		"Without them this site cannot know that you are logged in, wherever you log in.",
		"Allow cookies for this site and for your own, or open the link in another browser."},
	gateway.RuleTooMany: {http.StatusTooManyRequests, "Too many visitors at once",
		"More people are on their way from here than we can take care of.", "Wait a few minutes, then follow the link again."},
	gateway.RuleRateUser: {http.StatusTooManyRequests, "That was a little too fast",
		"You have followed many links to other sites in a short time.", adviceWait},
	gateway.RuleRateAddress: {http.StatusTooManyRequests, "Too many visitors at once",
		"Many links to other sites are being followed from the network that you are in.", adviceWait},
	gateway.RuleRatePeer: {http.StatusTooManyRequests, "Many people are on their way there",
		"More people want to visit the site that the link leads to than we may send there at once.", adviceWait},
	gateway.RuleUpstreamLocation: {http.StatusBadGateway, "We stopped this jump",
		"The link is a good one, but the learning site behind this address wanted to send you somewhere else.", adviceAdmin},
	gateway.RuleRedirectForeign:   leadsAway,
	gateway.RuleRedirectScheme:    leadsAway,
	gateway.RuleRedirectMalformed: leadsAway,
	gateway.RuleUserRemote: notYou.saying("Your account belongs to another institution. This site can only vouch for its own learners.",
		"Log in at your own institution and follow the link from there."),
	gateway.RuleUserLoginAs: notYou.saying("You are looking at this site as somebody else (“log in as”). Such a session does not leave the site.",
		"Return to your own account and follow the link again."),
	gateway.RuleUserSuspended: notYou.saying("Your account is suspended.", ""),
	gateway.RuleUserDeleted:   notYou.saying("Your account was deleted.", ""),
	gateway.RuleUserIncomplete: notYou.saying("Other sites need your first name, last name and mail address, and your account lacks one of them.",
		"Fill them in on your profile page, then follow the link again."),
	gateway.RuleUserNotAllowed: notYou.saying("Your institution lets some of its accounts visit this site, and yours is not among them.", ""),
	gateway.RuleUserAccess:     notYou.saying("Your account belongs to another institution, and may not use this site.", ""),
	gateway.RuleUserUsername: notYou.saying("The account that you logged in with is not one that your institution lets other sites know.",
		"Log in with your usual account, or tell your administrator; the details below help them."),

	gateway.RuleLoginMalformed: {http.StatusBadRequest, "This login is damaged",
		"You came back from your institution’s login without what we need to know.", adviceAgain},
	gateway.RuleLoginElsewhere: {http.StatusForbidden, "This login began somewhere else",
		"It was not begun in this browser, or your browser did not keep the cookie by which we recognise it.",
		"Follow the link again, and stay in the browser in which it opens."},
	gateway.RuleLoginOver: {http.StatusForbidden, "This login is over",
		"It took too long, or it was completed before.", adviceAgain},
	gateway.RuleLoginDenied: {http.StatusForbidden, "You were not logged in",
		"Your institution’s login did not let you in, or you left it before it was done.", adviceAgain},
	gateway.RuleLoginInvalid: {http.StatusForbidden, "This login cannot be trusted",
		"What your institution’s login told us about you does not hold.", adviceAgain},
}

// saying returns p with other words; an empty advice keeps p's own.
func (p problem) saying(text, advice string) problem {
	p.Text = text
	if advice != "" {
		p.Advice = advice
	}
	return p
}

// remoteOf returns the page for a remote learner whose home is known and cannot
// be jumped from. Its button leads there.
func remoteOf(home *gateway.Peer) problem {
	return notYou.saying("Your account belongs to "+home.Label()+". This site can only vouch for its own learners.",
		"Log in there, and follow the link again or look for the page from there.")
}

// lacking returns p with words for an account at a login provider that lacks
// something.
func (p problem) lacking(what []string) problem {
	if len(what) == 0 {
		return p
	}
	return p.saying("Other sites need your first name, last name and mail address. The account that your institution’s login knows you by lacks "+
		strings.Join(what, " and ")+".",
		"Fill it in there, or ask your administrator to, then follow the link again.")
}

// waiting returns p with the time when the link may be followed again; zero
// leaves p as it is.
func (p problem) waiting(after time.Duration) problem {
	if after <= 0 {
		return p
	}
	wait := "a minute"
	switch seconds := math.Ceil(after.Seconds()); {
	case seconds <= 5:
		wait = "a few seconds"
	case seconds <= 50:
		wait = fmt.Sprintf("%.0f seconds", seconds)
	case seconds > 70 && seconds <= 90*60:
		wait = fmt.Sprintf("%.0f minutes", math.Ceil(seconds/60))
	case seconds > 90*60:
		wait = fmt.Sprintf("%.0f hours", math.Ceil(seconds/3600))
	}
	p.Advice = "Wait " + wait + ", then follow the link again."
	return p
}

// problemOf returns the page for a rule that refuses.
func problemOf(rule gateway.Rule) problem {
	if p, ok := problems[rule]; ok {
		return p
	}
	return badLink
}

// Problems that are not about a rule.
var (
	notReady = problem{http.StatusServiceUnavailable, "Not just now",
		"We cannot send you to the other site at the moment, because a part of this site does not answer.",
		"Wait a minute, then follow the link again."}
	stray = problem{http.StatusInternalServerError, "We stopped this redirect",
		"This site was about to send you to an address that it must not send anybody to.", adviceAdmin}
	upstreamDown = problem{http.StatusBadGateway, "The site does not answer",
		"The learning site behind this address is not reachable. It may be restarting.",
		"Wait a minute, then reload this page."}
	upstreamSlow = problem{http.StatusGatewayTimeout, "The site takes too long",
		"The learning site behind this address did not answer in time.",
		"Wait a minute, then reload this page."}
	badAddress = problem{http.StatusBadRequest, "This address is damaged",
		"It has parts that no address of a page has.", "Type it in once more."}
	noSuchSite = problem{http.StatusNotFound, "There is no site at this address",
		"This server does not know the name that you called it by.",
		"Check the address."}
	noSuchPage = problem{http.StatusNotFound, "There is no such page",
		"The address is close to one that this server knows, but it is not one.",
		"Check the address."}
	// Moodle answers so with its dispatcher off (source: mnet/xmlrpc/server.php,
	// mnet/publickey.php); peers take a status of 404 for a failed call.
	mnetOff = problem{http.StatusNotFound, "Networking is switched off",
		"This site does not speak to other sites at the moment.", "Its administrator can switch it on."}
	wrongMethod = problem{http.StatusMethodNotAllowed, "That does not work here",
		"This address is there to be visited, not to be sent something.",
		"Follow the link again."}
)
