// Package idp is the identity-provider role: it takes over the jump, finds
// out who wants to leave, and sends them to a peer with a token that the peer
// redeems here.
package idp

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/link"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// Source says who a browser's Moodle session belongs to.
type Source interface {
	// Identity returns the zero Identity for nobody. An error means that
	// the question could not be answered.
	Identity(ctx context.Context, b moodle.Browser) (gateway.Identity, error)
}

// forgetter is a Source that remembers identities and has to be told when a
// session ends or changes hands.
type forgetter interface {
	Forget(ctx context.Context, session string) error
}

// HomeOf knows where remote learners are at home whose accounts the site has made
// itself, and what they are called there: nil if that is no peer. It reports
// whether the account is such a one; of others, Moodle knows.
type HomeOf func(u gateway.User) (home *gateway.Peer, username string, ours bool)

// Options says what a Provider works with.
type Options struct {
	Site           gateway.Wwwroot
	Aliases        []gateway.Wwwroot // other names of the site: accepted, never emitted
	Peers          *gateway.Allowlist
	Roam           gateway.Access // which users may jump at all
	Rates          Rates          // and how often
	Source         Source         // nil with OpenID
	OpenID         *OpenID        // vouches for the learners instead of Moodle; nil for none
	Store          *store.Site
	HomeOf         HomeOf                           // of remote learners; nil if Moodle knows it of all
	Browsers       *store.Sessions                  // our own sessions, which hold pending jumps
	Cookie         string                           // name of Moodle's session cookie
	SessionTimeout time.Duration                    // told to peers; and the life of a session there
	Secrets        gateway.Secrets                  // keep Moodle session ids secret
	Behind         *moodle.Behind                   // has the pictures; nil for none
	Unsigned       gateway.Unsigned                 // what becomes of unsigned jumps that a foreign page may have begun
	Links          *link.Verifier                   // of signed links; nil if none counts as signed
	Confirmations  gateway.Secrets                  // seal what the page that asks, and the cookie that remembers, say
	Client         func(r *http.Request) netip.Addr // the browser's address
	Now            func() time.Time                 // nil means time.Now; peers may be good for a time only

	// Children ends sessions at peers, which Call calls.
	Children *mnet.Children
	Call     func(ctx context.Context, peer *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error)

	// Redeemed is told what became of a token before the peer is. If it fails,
	// the peer gets a fault. It may be nil.
	Redeemed func(ctx context.Context, r Redemption) error

	// Logout ends a session at home: moodle.Web's. Touch keeps sessions there
	// alive; nil leaves that to Moodle.
	Logout func(ctx context.Context, b moodle.Browser, userID int64) error
	Touch  func(ctx context.Context, sessions []moodle.Owned) error
}

// Provider is the identity provider of one site.
type Provider struct {
	Options
	browserCookie string
	loginCookie   string // of logins at the OpenID provider
	confirmCookie string // remembers peers that the learner has confirmed
	browserPrefix string // how these begin in a header
	loginPrefix   string
	forgetter     forgetter          // nil if the source remembers nothing
	own           *gateway.Allowlist // the site itself, for links that name it as their forum
	names         []gateway.Wwwroot  // of the site: its wwwroot and aliases
}

// New returns the identity provider of a site.
func New(o Options) *Provider {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &Provider{
		Options: o, names: append([]gateway.Wwwroot{o.Site}, o.Aliases...),
		browserCookie: o.Site.CookieName("browser"), loginCookie: o.Site.CookieName("login"), confirmCookie: o.Site.CookieName("confirmed"),
	}
	p.browserPrefix, p.loginPrefix = p.browserCookie+"=", p.loginCookie+"="
	p.forgetter, _ = o.Source.(forgetter)
	p.own = gateway.OwnSite(o.Site, o.Aliases...)
	return p
}

// Answer is what became of a request that may send a learner to a peer. It is
// filled on the way and turned into a response, a log line and metrics in one
// place, web.
type Answer struct {
	Location string // answer with a 303 to it; empty for a page
	Landing  bool   // Location is a peer's landing address, not our login page
	Outcome  string // what else Location is: OutcomeHome, OutcomeOwn or OutcomeMoved

	Rule     gateway.Rule   // what decided
	Refused  bool           // Rule refused
	Peer     *gateway.Peer  // nil if not known
	Target   gateway.Target // zero if refused
	Wantsurl string         // as it came, for the record
	Username string         // of who is logged in, if that was asked
	Home     *gateway.Peer  // of a remote learner, if it is a peer
	Err      error          // Redis, Moodle or the OpenID provider could not be asked

	Origin    gateway.Origin    // of the click
	Signature gateway.Signature // of the link
	Confirm   *Confirmation     // ask the learner first

	// Cause says, for the record, why a login at the OpenID provider was
	// refused; Lacking what the account there lacks, in words for a page.
	Cause   error
	Lacking []string

	// After says of a jump that a limit refuses when it may be tried again.
	After time.Duration

	// Again is the link by which to try a refused jump again; empty for none.
	Again string

	// Foreign says that the link names its site by an address that is nobody's.
	Foreign bool

	// In guard mode.
	Passed bool   // Moodle's own answer is passed on
	Own    string // if that is a redirect: the page of the site that it leads to
	Moodle string // what it said instead of sending the learner to Target: for the record, without tokens

	// OtherCookie is a cookie that looks like Moodle's session cookie, where
	// the one that is configured is missing.
	OtherCookie string

	fromHub   bool // a hub takes us for the learner's home
	confirmed bool // the learner has been asked
}

// final reports whether the Answer is one without a token.
func (a Answer) final() bool {
	return a.Err != nil || a.Refused || a.Location != "" || a.Confirm != nil
}

// Probe reports whether a refused jump was an attempt to have us lead somebody
// to a site of the attempter's.
func (a Answer) Probe() bool { return a.Refused && (a.Foreign || a.Rule.Probe()) }

func (a Answer) refuse(rule gateway.Rule) Answer {
	a.Rule, a.Refused, a.Target = rule, true, gateway.Target{}
	return a
}

// browser returns what an identity source may know of a request.
func (p *Provider) browser(r *http.Request, session string) moodle.Browser {
	return moodle.Browser{Session: session, Addr: p.Client(r), UserAgent: r.UserAgent()}
}

// resume decides anew what a jump is to become that was remembered: the
// allowlist may have changed since.
func (p *Provider) resume(jump store.Jump) Answer {
	a := p.decide(gateway.Query{Hostwwwroot: jump.Peer.String(), Wantsurl: jump.Wantsurl})
	a.Origin, a.Signature = jump.Origin, jump.Signature
	return a
}

// decide makes an Answer of a decision. It has a Location already if the link
// leads to a page of our own, at which anybody may look.
func (p *Provider) decide(query gateway.Query) Answer {
	d, itself := gateway.DecideAt(p.own, p.Peers, query, p.Now())
	a := Answer{Rule: d.Rule, Refused: !d.Allow, Peer: d.Peer, Target: d.Target, Wantsurl: query.Wantsurl, fromHub: query.Hub != ""}
	a.Foreign = d.Rule == gateway.RulePeerUnknown && query.Hostwwwroot != ""
	if itself && d.Allow {
		a.Outcome, a.Location = OutcomeOwn, d.Target.URL()
	}
	return a
}
