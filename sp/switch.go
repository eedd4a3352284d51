package sp

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
)

// SwitchPath is where, below the wwwroot, the page that asks who shall be
// logged in sends the answer.
const SwitchPath = "/jumpgate/switch"

const (
	switchLife = 5 * time.Minute // of the page that asks
	maxForm    = 16 << 10        // bytes
	// maxCookies is how much a landing may set, in bytes, for a ticket to hold
	// it: a Moodle's own cookies are some hundred.
	maxCookies = 4 << 10
)

// Question is put to a learner who is logged in and follows a landing address
// of another account, or who has none here yet.
type Question struct {
	Ticket   string // answers it, once, in this session
	Present  string // name of who is logged in, "" if not known
	Newcomer string // name of the other one
	Creates  bool   // the other one does not exist yet
	LoggedIn bool   // somebody is
	Form     string // the origin besides our own to which an answer may lead, or ""
}

// ticket is a login that waits for its learner to say yes: one that has taken
// place, of which the Cookies are missing, or of an Account. It is sealed: who can
// read Cookies is logged in.
type ticket struct {
	ID       string          `json:"id"`
	Home     gateway.Wwwroot `json:"home"`
	Token    string          `json:"token"` // that brought it about, for the record
	Username string          `json:"username"`
	Wantsurl string          `json:"wantsurl"`
	Remote   bool            `json:"remote,omitempty"`
	Mail     string          `json:"mail,omitempty"`
	Cookies  []string        `json:"cookies,omitempty"`
	Account  *gateway.User   `json:"account,omitempty"`
	Learner  string          `json:"learner,omitempty"` // what the home calls who has the Account
	Expires  time.Time       `json:"expires"`
}

// ask asks the learner.
func (l *Landings) ask(a Arrival, newcomer present, cookies []string) Arrival {
	a.Outcome = OutcomeUnsure
	size := 0
	for _, cookie := range cookies {
		size += len(cookie)
	}
	if size > maxCookies {
		a.Err = fmt.Errorf("the landing sets %d bytes of cookies, more than a ticket holds", size)
		return a
	}
	return l.question(a, newcomer.who.User, ticket{Cookies: cookies})
}

// askAccount asks the learner before an account is logged in, or created.
func (l *Landings) askAccount(a Arrival, account gateway.User, creates bool) Arrival {
	a = l.question(a, account, ticket{Account: &account, Learner: a.learner})
	if a.Question != nil {
		a.Question.Creates = creates
	}
	return a
}

// question makes the page that asks about a ticket of which the login is known.
func (l *Landings) question(a Arrival, newcomer gateway.User, t ticket) Arrival {
	t.ID, t.Home, t.Token, t.Username = rand.Text(), a.Home.Wwwroot, a.Token, newcomer.Username
	t.Wantsurl, t.Remote, t.Mail, t.Expires = a.Wantsurl, a.landing.Remote, a.mail, l.Now().Add(switchLife)
	var text []byte
	if text, a.Err = json.Marshal(t); a.Err != nil {
		return a
	}
	a.Outcome = OutcomeAsked
	a.Question = &Question{
		Ticket:  l.Seal.Seal(string(text), l.asked(a.present)),
		Present: fullName(a.present.who.User), Newcomer: fullName(newcomer), LoggedIn: a.present.loggedIn(),
	}
	if a.landing.Remote || !a.Question.LoggedIn {
		a.Question.Form = a.Home.Wwwroot.Origin()
	}
	return a
}

// asked names who was asked: a user in a session, which both may change.
func (l *Landings) asked(p present) string {
	return strings.Join([]string{"switch", l.Site.String(), p.session, strconv.FormatInt(p.who.User.ID, 10)}, " ")
}

// Switch takes the answer of a learner who was asked. Only the page that asks
// can have sent it, once, in the session for which it was made.
func (l *Landings) Switch(w http.ResponseWriter, r *http.Request) Arrival {
	if !gateway.Navigation(r.Header) {
		return Arrival{}.refuse(gateway.RuleNotNavigation)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil || len(r.PostForm["landing"]) != 1 || len(r.PostForm["answer"]) != 1 {
		return Arrival{}.refuse(gateway.RuleConfirmOver)
	}
	here, err := l.present(r)
	if err != nil {
		return Arrival{Err: err}
	}
	var t ticket
	text, err := l.Seal.Open(r.PostForm["landing"][0], l.asked(here))
	if err != nil || json.Unmarshal([]byte(text), &t) != nil || !l.Now().Before(t.Expires) ||
		!here.loggedIn() && t.Account == nil || t.Account != nil && l.Logins == nil {
		return Arrival{}.refuse(gateway.RuleConfirmOver)
	}
	return l.decided(r, here, t, r.PostForm["answer"][0])
}

// decided carries out what a learner has decided. The home may be none any more.
func (l *Landings) decided(r *http.Request, here present, t ticket, answer string) Arrival {
	landing := gateway.Landing{IDP: t.Home.String(), Wantsurl: t.Wantsurl, Remote: t.Remote}
	d := l.decide(landing)
	a := Arrival{
		Rule: d.Rule, Home: d.Peer, Target: d.Target, Wantsurl: t.Wantsurl, Token: t.Token,
		Username: here.who.User.Username, Newcomer: t.Username,
		landing: landing, present: here, learner: t.Learner, asked: true, mail: t.Mail,
	}
	switch {
	case !d.Allow:
		return a.refuse(d.Rule)
	case t.Account != nil && !d.Peer.Subscribes(gateway.ServiceSSOIDP):
		return a.refuse(gateway.RuleHomeGrant)
	}
	replayed, err := l.Once.Replayed(r.Context(), sha256.Sum256([]byte("jumpgate landing\x00"+t.ID)))
	switch {
	case err != nil:
		a.Err = err
	case replayed, answer != "switch" && answer != "stay":
		return a.refuse(gateway.RuleConfirmOver)
	case answer == "switch" && t.Account != nil:
		if a.Outcome = OutcomeSwitched; !here.loggedIn() {
			a.Outcome = OutcomeLanded
		}
		return l.enter(r, a, *t.Account)
	case answer == "switch":
		a.Outcome, a.Location, a.Cookies = OutcomeSwitched, d.Target.URL(), t.Cookies
	case !here.loggedIn():
		a.Outcome, a.Location = OutcomeStayed, d.Peer.Wwwroot.String()+"/"
	case t.Remote: // the page is the home's, for who has an account there
		a.Outcome, a.Location = OutcomeStayed, l.Site.String()+"/"
	default:
		a.Outcome, a.Location = OutcomeStayed, d.Target.URL()
	}
	return a
}
