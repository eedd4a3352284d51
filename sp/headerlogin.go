package sp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// HeaderLogins log learners in at a site without MNet: the token is redeemed
// here, and Moodle believes whom the headers of an inner request name. Where there
// is no Moodle, a session of ours begins.
type HeaderLogins struct {
	Names  gateway.AccountNames
	Moodle HeaderMoodle // nil with Landings.App
	Visits *Visits      // knows the sessions that landings begin; with Landings.App, its Visits do

	// Call calls a method of a home: mnet.Caller.Call.
	Call func(ctx context.Context, home *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error)

	// HasAccount reports whether there is an account of this name. It is asked
	// only about learners of homes whose AutoAdd looks up.
	HasAccount func(ctx context.Context, username string) (bool, error)

	// Spend charges an address for a landing, with a *store.RateError if there
	// were too many.
	Spend func(ctx context.Context, addr netip.Addr) error
}

// HeaderMoodle is a Moodle that logs in by headers: moodle.Web.
type HeaderMoodle interface {
	HeaderLogin(ctx context.Context, b moodle.Browser, u gateway.User) (moodle.HeaderLogin, error)
	Logout(ctx context.Context, b moodle.Browser, userID int64) error
}

// logoutTime bounds the logout of a session that nobody may have.
const logoutTime = 5 * time.Second

// LogIn lets the learner of an Arrival that is not Final land: as the account
// that is theirs here, and if somebody else is logged in, or an account is to be
// made that has to be asked for, after a question. A landing that changes nothing
// about who is logged in changes nothing about the session either.
func (l *Landings) LogIn(r *http.Request, a Arrival) Arrival {
	if !a.Home.Subscribes(gateway.ServiceSSOIDP) {
		return a.refuse(gateway.RuleHomeGrant)
	}
	if err := l.Header.Spend(r.Context(), l.Client(r)); err != nil {
		if limit, ok := errors.AsType[*store.RateError](err); ok {
			a.After = limit.After
			return a.refuse(limit.Rule)
		}
		a.Err = err
		return a
	}
	if !a.present.visits() {
		return l.logIn(r, a)
	}
	if a.Err = l.Header.Visits.Store.Hold(r.Context(), a.present.session); a.Err != nil {
		return a
	}
	if a = l.logIn(r, a); a.Outcome != OutcomeSame {
		l.Header.Visits.letGo(r.Context(), a.present.session)
	}
	return a
}

// logIn is LogIn for who may land. A session that a landing has begun is held
// meanwhile.
func (l *Landings) logIn(r *http.Request, a Arrival) Arrival {
	learner, account, refused, err := l.redeem(r, a)
	a.learner = learner
	switch {
	case err != nil:
		a.Err = err
		return a
	case refused != nil && refused.rule == gateway.RuleTokenUsed && (l.App != nil || a.present.who.User.Auth == moodle.AuthHeader) && a.present.loggedIn():
		a.Outcome, a.Location = OutcomeUsed, a.Target.URL() // a double click, or the way back in the history
		return a
	case refused != nil:
		return l.turnAway(a, *refused)
	}
	a.Newcomer, a.mail = account.Username, account.Email
	if l.App != nil {
		return l.logInApp(r, a, account)
	}
	if a.present.isAccount(account) {
		if a.Err = l.Header.Visits.begin(r, a, a.present); a.Err == nil {
			a.Outcome, a.Location = OutcomeSame, a.Target.URL()
		}
		return a
	}
	creates, err := l.creates(r.Context(), a.Home, account)
	switch {
	case err != nil:
		a.Err = err
		return a
	case creates && a.Home.AutoAdd == gateway.AutoAddExisting:
		return l.turnAway(a, refusal{rule: gateway.RuleAccountMissing})
	case creates, a.present.loggedIn():
		if a.Err = l.Header.Visits.Store.Await(r.Context(), a.Home.Wwwroot, learner, agentHash(r)); a.Err != nil {
			return a
		}
		return l.askAccount(a, account, creates)
	}
	a.Outcome = OutcomeLanded
	return l.enter(r, a, account)
}

// creates reports whether an account would be made that may not be made unasked.
func (l *Landings) creates(ctx context.Context, home *gateway.Peer, account gateway.User) (bool, error) {
	if !home.AutoAdd.LooksUp() {
		return false, nil
	}
	has, err := l.Header.HasAccount(ctx, account.Username)
	return !has && err == nil, err
}

// isAccount reports whether an account is logged in, and no administrator wears
// it.
func (p present) isAccount(account gateway.User) bool {
	return p.who.User.ID != 0 && p.who.User.Username == account.Username && p.who.User.Auth == moodle.AuthHeader &&
		!p.who.Remote && !p.who.LoginAs
}

// visits reports whether the session may be one that a landing has begun.
func (p present) visits() bool {
	return p.who.User.Auth == moodle.AuthHeader && !p.who.LoginAs
}

// enter logs an account in. Of the new session the browser learns only when it is
// certain that it is that account's: whatever else Moodle has made of the headers
// is logged out. A login that lacks something, such as a second factor, is the
// account's all the same, and Moodle's own affair.
func (l *Landings) enter(r *http.Request, a Arrival, account gateway.User) Arrival {
	if l.App != nil {
		return l.enterApp(r, a, account)
	}
	ctx := r.Context()
	login, err := l.Header.Moodle.HeaderLogin(ctx, l.browser(r, ""), account)
	if errors.Is(err, moodle.ErrLoginRefused) {
		return l.turnAway(a, refusal{gateway.RuleAccountRefused, err})
	}
	var who gateway.Identity
	if err == nil {
		who, err = l.Source.Identity(ctx, l.browser(r, login.Session))
	}
	if err != nil { // nobody knows the id of the session, if there is one
		a.Outcome, a.Err = "", err
		return a
	}
	now := present{login.Session, who}
	if !now.isAccount(account) || who.User.Suspended || who.User.Deleted {
		return l.turnAway(a, refusal{gateway.RuleAccountRefused, errors.Join(now.other(), l.expel(r, now))})
	}
	err = l.Header.Visits.begin(r, a, now)
	switch {
	case errors.Is(err, store.ErrLoggedOut):
		return l.turnAway(a, refusal{gateway.RuleTokenRefused, errors.Join(err, l.expel(r, now))})
	case err != nil: // a logout at home would not end it
		a.Outcome, a.Err = "", errors.Join(err, l.expel(r, now))
		return a
	}
	a.Location, a.Cookies = a.Target.URL(), login.Cookies
	return a
}

// other says why a session that Moodle has begun is not the one that was meant.
func (p present) other() error {
	u := p.who.User
	if u.Username == "" && (p.who.Pending() || u.ID == 0) {
		return errors.New("moodle does not say whose the session is that it has begun: if learners have to agree to a policy or to fill in " +
			"their profile first, give landing.token_file or use the identity source moodle-redis, which a second factor needs as well")
	}
	return fmt.Errorf("moodle has logged in user %d %q (auth %s, suspended %t)", u.ID, u.Username, u.Auth, u.Suspended)
}

// expel ends a session that nobody may have, also if the browser has gone.
func (l *Landings) expel(r *http.Request, p present) error {
	if p.who.User.ID == 0 {
		return nil // nobody's
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), logoutTime)
	defer cancel()
	return l.Header.Moodle.Logout(ctx, l.browser(r, p.session), p.who.User.ID)
}

// turnAway refuses a learner whose home is known, and shows the way to try again
// from there. Which number a Mahara's jump wants only it knows.
func (l *Landings) turnAway(a Arrival, why refusal) Arrival {
	a.Outcome, a.Cause = "", why.cause
	if a.Home.Application == gateway.Moodle && !a.landing.Remote {
		a.Again = gateway.JumpLink(a.Home.Wwwroot, a.Home.Application, l.Site, a.Target)
	}
	return a.refuse(why.rule)
}

// Visitors is the identity source of a site where learners of other homes have
// accounts of its own, by headers: to other sites it does not vouch for them.
type Visitors struct{ Source }

// Identity marks who has come by headers as remote.
func (v Visitors) Identity(ctx context.Context, b moodle.Browser) (gateway.Identity, error) {
	id, err := v.Source.Identity(ctx, b)
	id.Remote = id.Remote || id.User.Auth == moodle.AuthHeader
	return id, err
}
