package sp

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
)

// HomePath is where, below the wwwroot, a learner says where they come from.
const HomePath = "/jumpgate/home"

// Bounces takes learners who ask for a page and are not logged in to their home,
// which sends them back to the page, logged in. Moodle itself would show its
// login form, where those from elsewhere have no account.
//
// Nobody is sent home twice from the same page: see marks.
type Bounces struct {
	Homes *Homes
	Auto  bool // without asking, if the home is remembered
	Other bool // the application is no Moodle: who is to log in is answered 401
}

// What becomes of a learner who is not logged in.
const (
	OutcomeBounced = "bounced" // sent to the home that is remembered
	OutcomeChoose  = "choose"  // asked where they come from
	OutcomeBack    = "back"    // asked, since they were sent home and are back, not logged in
	OutcomeLeft    = "left"    // asked, since they have just logged out
	OutcomeChosen  = "chosen"  // sent to the home that they chose
	OutcomeHere    = "here"    // sent to log in here, as they chose
)

// Bounce is what becomes of a learner who is not logged in.
type Bounce struct {
	Rule     gateway.Rule // what decided
	Refused  bool         // Rule refused
	Page     gateway.Target
	Wantsurl string        // as it came, for the record
	Home     *gateway.Peer // where the learner is sent; if they are asked, the one that is remembered
	Outcome  string        // one of the constants; empty if refused
	Location string        // lead there; if empty, ask
	Cookies  []*http.Cookie
	Err      error
}

// Asks reports whether the learner is asked.
func (b Bounce) Asks() bool { return !b.Refused && b.Err == nil && b.Location == "" }

// Watches reports whether Look wants to see what Moodle answers: to a page that
// a browser is about to show, and to a logout. It costs no allocation.
//
// A page of a login is never bounced: whoever logs in here wants to, and its
// address may hold what only this site may know. The Moodle app logs in by its
// own ways, and what is not asked for as a page of HTML (a script, a picture in
// a mail, a web service, a feed) could not follow.
func (b *Bounces) Watches(r *http.Request) bool {
	path, ok := strings.CutPrefix(r.URL.Path, b.Homes.Site.Path())
	if !ok {
		return false
	}
	if path == moodle.PageLogout {
		return true
	}
	return r.Method == http.MethodGet && gateway.Navigation(r.Header) && accepts(r.Header["Accept"], "text/html") &&
		!strings.HasPrefix(path, "/login/") && !strings.HasPrefix(path, "/auth/") && path != moodle.PageOAuth2 &&
		!strings.Contains(r.UserAgent(), "MoodleMobile")
}

// accepts reports whether one of the values of Accept names a type itself:
// */* is what programs say.
func accepts(values []string, mediaType string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, mediaType) })
}

// Look looks at what Moodle answers. It reports false if that is to be passed
// on: it is no redirect to the login page, or the learner has an account here.
// Otherwise the Bounce takes its place, and Moodle's cookies ride on it: its new
// session knows the page, for who logs in here after all.
func (b *Bounces) Look(r *http.Request, res *http.Response) (Bounce, bool) {
	if r.URL.Path == b.Homes.Site.Path()+moodle.PageLogout {
		if res.StatusCode/100 == 3 { // without the right sesskey it is a page that asks
			res.Header.Add("Set-Cookie", b.LoggedOut().String())
		}
		return Bounce{}, false
	}
	if toLogin := b.Other && res.StatusCode == http.StatusUnauthorized || !b.Other && b.toLogin(r, res); !toLogin {
		return Bounce{}, false
	}
	return b.Away(r, r.URL.RequestURI())
}

// Away takes the learner of a request who is not logged in away from a page, which
// is named by path and query. It reports false if they are to stay: they have an
// account here, or nowhere to go.
func (b *Bounces) Away(r *http.Request, page string) (Bounce, bool) {
	wantsurl, ok := strings.CutPrefix(page, b.Homes.Site.Path())
	d := gateway.DecideOwn(b.own(), wantsurl)
	if !ok || !d.Allow || b.Homes.Here(r) || len(b.Open()) == 0 {
		return Bounce{}, false
	}
	a := b.ask(r, d, wantsurl)
	if !b.Auto || a.Home == nil || a.Outcome != OutcomeChoose {
		return a, true
	}
	return b.send(r, a, OutcomeBounced), true
}

// toLogin reports whether an answer of Moodle's sends the browser to the login
// page of the site.
func (b *Bounces) toLogin(r *http.Request, res *http.Response) bool {
	values := res.Header["Location"]
	if res.StatusCode != http.StatusSeeOther && res.StatusCode != http.StatusFound || len(values) != 1 {
		return false
	}
	to, err := url.Parse(values[0])
	if err != nil {
		return false
	}
	from, err := url.Parse(b.Homes.Site.Origin() + r.URL.EscapedPath())
	if err != nil {
		return false
	}
	to = from.ResolveReference(to)
	origin, err := gateway.ParseWwwroot(to.Scheme + "://" + to.Host)
	return err == nil && to.User == nil && slices.ContainsFunc(b.names(), func(name gateway.Wwwroot) bool {
		return origin.Origin() == name.Origin() && to.Path == name.Path()+moodle.PageLogin
	})
}

func (b *Bounces) names() []gateway.Wwwroot {
	return append([]gateway.Wwwroot{b.Homes.Site}, b.Homes.Aliases...)
}

func (b *Bounces) own() *gateway.Allowlist {
	return gateway.OwnSite(b.Homes.Site, b.Homes.Aliases...)
}

// Open returns the homes that a learner may choose.
func (b *Bounces) Open() []*gateway.Peer { return b.Homes.Peers.Homes(b.Homes.Now()) }

// LoggedOut returns the cookie that remembers, for a while, that a learner has
// logged out: they are not sent home at once to be logged in again.
func (b *Bounces) LoggedOut() *http.Cookie { return b.mark(nil, loggedOut) }

// Ask answers a GET of HomePath: where do you come from, to see that page?
func (b *Bounces) Ask(r *http.Request) Bounce {
	wantsurl := r.URL.Query().Get("wantsurl")
	d := gateway.DecideOwn(b.own(), wantsurl)
	if !d.Allow {
		return Bounce{Rule: d.Rule, Refused: true, Wantsurl: wantsurl}
	}
	return b.ask(r, d, wantsurl)
}

// ask asks the learner. The mark that it sets shows, when the answer comes,
// that the browser keeps cookies.
func (b *Bounces) ask(r *http.Request, d gateway.Decision, wantsurl string) Bounce {
	a := Bounce{Rule: d.Rule, Page: d.Target, Wantsurl: wantsurl, Outcome: OutcomeChoose}
	if home, err := b.Homes.Home(r); err == nil && slices.Contains(b.Open(), home) {
		a.Home = home
	}
	marks := b.marks(r)
	switch {
	case marks.has(loggedOut):
		a.Outcome = OutcomeLeft
	case marks.has(pageMark(d.Target)), marks.full():
		a.Outcome = OutcomeBack
	}
	a.Cookies = append(a.Cookies, b.mark(marks, ""))
	return a
}

// send sends the learner of an answer to its home.
func (b *Bounces) send(r *http.Request, a Bounce, outcome string) Bounce {
	a.Outcome = outcome
	a.Location = gateway.JumpLink(a.Home.Wwwroot, a.Home.Application, b.Homes.Site, a.Page)
	a.Cookies = []*http.Cookie{b.mark(b.marks(r).without(loggedOut), pageMark(a.Page))}
	return a
}

// Choose takes the answer of a learner who was asked: they are sent to the home
// that they chose, which is remembered, or to the page itself, where Moodle's
// own login then awaits them. A browser without any cookie could not be logged in,
// and would be asked again and again.
func (b *Bounces) Choose(w http.ResponseWriter, r *http.Request) Bounce {
	if !gateway.Navigation(r.Header) {
		return Bounce{Rule: gateway.RuleNotNavigation, Refused: true}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil || len(r.PostForm["home"]) != 1 || len(r.PostForm["wantsurl"]) != 1 {
		return Bounce{Rule: gateway.RuleBadQuery, Refused: true}
	}
	home, wantsurl := r.PostForm["home"][0], r.PostForm["wantsurl"][0]
	here := home == b.Homes.Site.String()
	var d gateway.Decision
	if here {
		d = gateway.DecideOwn(b.own(), wantsurl)
	} else {
		d = gateway.DecideHome(b.own(), b.Homes.Peers, home, wantsurl, b.Homes.Now())
	}
	a := Bounce{Rule: d.Rule, Page: d.Target, Wantsurl: wantsurl, Home: d.Peer, Refused: !d.Allow}
	if d.Allow && len(r.Header["Cookie"]) == 0 {
		a.Rule, a.Refused = gateway.RuleNoCookie, true
	}
	if a.Refused {
		return a
	}
	var remembered *http.Cookie
	if here {
		a.Outcome, a.Location = OutcomeHere, a.Page.URL()
		remembered, a.Err = b.Homes.HereCookie()
	} else {
		a = b.send(r, a, OutcomeChosen)
		remembered, a.Err = b.Homes.Cookie(a.Home)
	}
	if a.Err == nil {
		a.Cookies = append(a.Cookies, remembered)
	}
	return a
}
