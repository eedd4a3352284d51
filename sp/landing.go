package sp

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
)

// Source says who a browser's Moodle session belongs to. It returns the zero
// Identity for nobody; an error means that the question could not be answered.
type Source interface {
	Identity(ctx context.Context, b moodle.Browser) (gateway.Identity, error)
}

// Once remembers what was used: store.Site.
type Once interface {
	// Replayed marks nonce and reports whether it was marked before.
	Replayed(ctx context.Context, nonce [32]byte) (bool, error)
	// ReplayedWithin is Replayed, and forgets after life.
	ReplayedWithin(ctx context.Context, nonce [32]byte, life time.Duration) (bool, error)
}

// Landings watches over who lands at a site. A stock Moodle gives the browser
// of whoever follows a landing address the account for which that was made,
// also one who is logged in already: somebody else's account, if it was
// somebody else who sent them there (login CSRF). Whose a token is, Moodle
// learns when it redeems it. So it redeems those of browsers that are logged in
// in a session of its own, and the learner is asked before they get that.
type Landings struct {
	Site   gateway.Wwwroot
	Names  []gateway.Wwwroot  // other names of the site
	Peers  *gateway.Allowlist // the homes
	Source Source
	Cookie string // name of Moodle's session cookie
	Once   Once
	Seal   gateway.Secrets
	Client func(r *http.Request) netip.Addr // the browser's address

	// Spend charges an address for a landing, with a *store.RateError if there
	// were too many.
	Spend func(ctx context.Context, addr netip.Addr) error

	Now    func() time.Time
	Logins *Logins      // nil if Moodle itself has MNet
	App    *AppSessions // with Logins, at a site that is no Moodle: it has the sessions
	Learns *Learns      // nil if nothing is to be learned of landings
}

// What becomes of a landing, besides that it is refused.
const (
	OutcomeHead     = "head"     // a HEAD: decided, not done
	OutcomeLanded   = "landed"   // nobody was logged in, and now somebody is
	OutcomeFailed   = "failed"   // Moodle logs nobody in
	OutcomeSame     = "same"     // the learner was logged in with that account already
	OutcomeUsed     = "used"     // the token was used before, and a learner of ours is logged in: to the page
	OutcomeAsked    = "asked"    // the account is another, or new: the learner decides
	OutcomeUnsure   = "unsure"   // whose it is cannot be found out, or not be kept
	OutcomeSwitched = "switched" // the learner wants the new account
	OutcomeStayed   = "stayed"   // and does not
)

// Arrival is what is known of a landing, and what becomes of it.
type Arrival struct {
	Rule     gateway.Rule // what decided
	Refused  bool         // Rule refused
	Home     *gateway.Peer
	Target   gateway.Target // zero if refused
	Wantsurl string         // as it came, for the record
	Origin   gateway.Origin // of the click
	Outcome  string         // one of the constants; empty if refused, and before Moodle has answered
	Err      error          // Redis or Moodle could not be asked
	Cause    error          // why Rule refused, for administrators
	After    time.Duration  // until it is worth while to come again; zero if not known
	Again    string         // the link at the home by which to come again; empty for none

	Token    string // as it came: for its hash alone
	Username string // of who is logged in
	Newcomer string // of whose account the landing is, if that was asked

	Question *Question    // ask the learner
	Location string       // answer with a 303 to it
	Cookies  []string     // and these Set-Cookie fields, of Moodle's
	Session  *http.Cookie // or this one, of ours

	Hint string // what the administrator may have to look at

	landing gateway.Landing
	present present
	learner string // what the home calls the newcomer
	asked   bool   // the learner was, and says yes
	mail    string // address of who has landed, if their home or Moodle has told it

	account gateway.User // of who is logged in by us, as their home tells it; zero for nobody
}

// present is who uses a browser at the moment.
type present struct {
	session string // of Moodle, "" for none
	who     gateway.Identity
}

// loggedIn reports whether there is an account to lose. Guests have none; a
// login that only lacks a factor or a new password is somebody's.
func (p present) loggedIn() bool {
	return p.who.User.Auth == authApp || p.who.User.ID != 0 && !p.who.Guest || p.who.LoginAs || p.who.Pending()
}

// is reports whether somebody else is certainly the same account, and neither
// is an administrator who wears it.
func (p present) is(who gateway.Identity) bool {
	return who.User.ID != 0 && who.User.ID == p.who.User.ID && !who.LoginAs && !p.who.LoginAs
}

// Arrive decides about a GET or HEAD of the landing address, and finds out who
// uses the browser. Unless the Arrival is Final, Moodle is to be asked: for
// Ask, and with the browser's session if Keeps is false.
func (l *Landings) Arrive(r *http.Request) Arrival {
	a := Arrival{Origin: gateway.OriginOf(r.Header, append([]gateway.Wwwroot{l.Site}, l.Names...)...)}
	landing, rule := gateway.ParseLanding(r.URL.RawQuery)
	if rule != gateway.RuleOK {
		return a.refuse(rule)
	}
	d := l.decide(landing)
	a.landing, a.Rule, a.Home, a.Target, a.Wantsurl, a.Token = landing, d.Rule, d.Peer, d.Target, landing.Wantsurl, landing.Token
	switch {
	case !d.Allow:
		return a.refuse(d.Rule)
	case !gateway.Navigation(r.Header):
		return a.refuse(gateway.RuleNotNavigation)
	case r.Method == http.MethodHead:
		a.Outcome = OutcomeHead
		return a
	}
	if a.present, a.Err = l.present(r); a.Err != nil {
		return a
	}
	a.Username = a.present.who.User.Username
	if a.present.session == "" && l.App == nil {
		if other := moodle.OtherSession(r, l.Cookie); other != "" {
			a.Hint = "the browser has the cookie " + other + ": is identity.cookie right?"
		}
	}
	return a
}

func (l *Landings) decide(landing gateway.Landing) gateway.Decision {
	return gateway.DecideLanding(gateway.OwnSite(l.Site, l.Names...), l.Peers, landing, l.Now())
}

// Final reports whether Moodle need not be asked.
func (a Arrival) Final() bool { return a.Refused || a.Outcome != "" || a.Err != nil }

// Keeps reports whether the browser has a session that it may want to keep.
func (a Arrival) Keeps() bool { return a.present.loggedIn() }

// Ask returns the request target by which Moodle is to redeem the token.
func (l *Landings) Ask(a Arrival) string {
	return l.Site.Path() + gateway.Moodle.LandPath() + "?" + a.landing.Query(a.Target)
}

// Probe reports whether a refused landing was an attempt to have us lead
// somebody to a site of the attempter's.
func (a Arrival) Probe() bool { return a.Refused && a.Rule.Probe() }

func (a Arrival) refuse(rule gateway.Rule) Arrival {
	a.Rule, a.Refused, a.Target = rule, true, gateway.Target{}
	return a
}

// present returns who uses a browser.
func (l *Landings) present(r *http.Request) (present, error) {
	if l.App != nil {
		return l.App.present(r)
	}
	session := moodle.RequestSession(r, l.Cookie)
	if session == "" {
		return present{}, nil
	}
	who, err := l.Source.Identity(r.Context(), l.browser(r, session))
	if l.Logins != nil {
		l.Logins.Visits.note(session)
	}
	return present{session, who}, err
}

func (l *Landings) browser(r *http.Request, session string) moodle.Browser {
	return moodle.Browser{Session: session, Addr: l.Client(r), UserAgent: r.UserAgent()}
}

// Judge looks at what Moodle answers. The answer passes if the Outcome is
// OutcomeLanded, OutcomeFailed or OutcomeSame, and nothing of it otherwise.
//
// A session that Moodle has made and the browser does not get is left to end by
// itself. Nobody knows its id, and to log it out would log its user out at home
// (source: prelogout_hook).
func (l *Landings) Judge(r *http.Request, a Arrival, res *http.Response) Arrival {
	if other := moodle.ReplacesOther(r, res.Header, l.Cookie); other != "" {
		a.Outcome, a.Err = OutcomeUnsure, fmt.Errorf("moodle logs in under the cookie %.80q, and identity.cookie says %s", other, l.Cookie)
		return a
	}
	session, _ := moodle.SetsSession(res.Header, l.Cookie)
	if a.present.session == "" && session == "" {
		a.Outcome = OutcomeFailed
		return a
	}
	newcomer := present{session: session}
	if session != "" {
		newcomer.who, a.Err = l.Source.Identity(r.Context(), l.browser(r, session))
	}
	a.Newcomer, a.mail = newcomer.who.User.Username, remoteMail(newcomer.who)
	switch u := newcomer.who.User; {
	case u.Suspended || u.Deleted: // which the plugin does not ask (source: auth/mnet/auth.php)
		return l.turnAway(a, refusal{gateway.RuleAccountRefused, fmt.Errorf("moodle has logged in user %d %q, who is suspended or deleted", u.ID, u.Username)})
	case a.present.session == "" && res.StatusCode/100 != 3:
		a.Outcome, a.Err = OutcomeFailed, nil
	case !a.Keeps() && a.Err != nil: // there is nobody to lose
		a.Outcome, a.Err = OutcomeLanded, nil
	case a.Err != nil:
		a.Outcome = OutcomeUnsure
	case a.present.session == "": // and nobody's either
		a.Outcome = OutcomeLanded
	case !newcomer.loggedIn():
		// A source that does not know the one may not have known the other.
		a.Outcome = OutcomeFailed
		if session != "" && res.StatusCode/100 == 3 {
			a.Hint = "the session that Moodle has begun is nobody's: is identity right?"
		}
		moodle.KeepSession(res.Header, l.Cookie)
	case !a.Keeps():
		a.Outcome = OutcomeLanded
	case a.present.is(newcomer.who):
		a.Outcome = OutcomeSame
	default:
		a = l.ask(a, newcomer, res.Header["Set-Cookie"])
	}
	return a
}

// fullName returns what people call an account, or "" if that is not known.
func fullName(u gateway.User) string {
	if name := strings.TrimSpace(u.FirstName + " " + u.LastName); name != "" {
		return name
	}
	return u.Username
}
