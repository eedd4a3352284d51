package sp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// Logins log learners in at a site without MNet: the token is redeemed
// here, and a Door leads them into the Moodle. Where there is no Moodle, a session
// of ours begins.
type Logins struct {
	Names  gateway.AccountNames
	Door   Door    // nil with Landings.App
	Visits *Visits // knows the sessions that landings begin; with Landings.App, its Visits do

	// Call calls a method of a home: mnet.Caller.Call.
	Call func(ctx context.Context, home *gateway.Peer, method string, params ...mnet.Value) (mnet.Value, error)

	// Pictures takes up pictures of learners; nil if none are taken.
	Pictures *Pictures
}

// Newcomer is a learner for whom a home vouches.
type Newcomer struct {
	Home    *gateway.Peer
	Learner string       // what they are called there
	Account gateway.User // what we make of what their home tells: Username is the name that their account here would have
}

// Door is how a Moodle without MNet lets learners in: a HeaderDoor or an OAuth2Door.
type Door interface {
	// logIn has Moodle log a newcomer in, in a new session: whose that is has to
	// be looked at. A refusal says that it does not. seen is for verify.
	logIn(ctx context.Context, b moodle.Browser, n Newcomer) (login moodle.Login, seen []moodle.Account, err error)
	// owns reports whether the account that is logged in is the newcomer's, and
	// no administrator wears it.
	owns(who gateway.Identity, n Newcomer) bool
	// verify looks, after a login, whether what logIn has judged by was all there
	// is. A refusal says that it was not.
	verify(ctx context.Context, who gateway.Identity, n Newcomer, seen []moodle.Account) error
	// has reports whether the newcomer has an account.
	has(ctx context.Context, n Newcomer) (bool, error)
	// begins reports whether the sessions of accounts of an auth may have been
	// begun here.
	begins(auth string) bool
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
	if a = l.spend(r, a); a.Final() {
		return a
	}
	if !l.visits(a.present) {
		return l.logIn(r, a)
	}
	if a.Err = l.Logins.Visits.Store.Hold(r.Context(), a.present.session); a.Err != nil {
		return a
	}
	if a = l.logIn(r, a); a.Outcome != OutcomeSame {
		l.Logins.Visits.letGo(r.Context(), a.present.session)
	}
	return a
}

// spend charges the address of a browser for a landing: anybody can make up tokens,
// each of which is remembered for a while, and asked for at its home.
func (l *Landings) spend(r *http.Request, a Arrival) Arrival {
	err := l.Spend(r.Context(), l.Client(r))
	if limit, ok := errors.AsType[*store.RateError](err); ok {
		a.After = limit.After
		return a.refuse(limit.Rule)
	}
	a.Err = err
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
	case refused != nil && refused.rule == gateway.RuleTokenUsed && (l.App != nil || l.Logins.Door.begins(a.present.who.User.Auth)) && a.present.loggedIn():
		a.Outcome, a.Location = OutcomeUsed, a.Target.URL() // a double click, or the way back in the history
		return a
	case refused != nil:
		return l.turnAway(a, *refused)
	}
	a.Newcomer, a.mail = account.Username, account.Email
	if l.App != nil {
		return l.logInApp(r, a, account)
	}
	n := Newcomer{a.Home, learner, account}
	here, err := l.isHere(r.Context(), a.present, n)
	if err != nil {
		a.Err = err
		return a
	}
	if here {
		if a.Err = l.Logins.Visits.begin(r, a, a.present); a.Err == nil {
			a.Outcome, a.Location = OutcomeSame, a.Target.URL()
			a.account, a.account.ID = account, a.present.who.User.ID
		}
		return a
	}
	creates, err := l.creates(r.Context(), n)
	switch {
	case err != nil:
		a.Err = err
		return a
	case creates && a.Home.AutoAdd == gateway.AutoAddExisting:
		return l.turnAway(a, refusal{rule: gateway.RuleAccountMissing})
	case creates, a.present.loggedIn():
		if a.Err = l.Logins.Visits.Store.Await(r.Context(), a.Home.Wwwroot, learner, agentHash(r)); a.Err != nil {
			return a
		}
		return l.askAccount(a, account, creates)
	}
	a.Outcome = OutcomeLanded
	return l.enter(r, a, account)
}

// creates reports whether an account would be made that may not be made unasked.
func (l *Landings) creates(ctx context.Context, n Newcomer) (bool, error) {
	if !n.Home.AutoAdd.LooksUp() {
		return false, nil
	}
	has, err := l.Logins.Door.has(ctx, n)
	return !has && err == nil, err
}

// isHere reports whether a newcomer is logged in already. Whose an account of Moodle's
// own MNet is, or one by OAuth 2, which may have come by another provider, only our
// landing knows that has begun the session.
func (l *Landings) isHere(ctx context.Context, p present, n Newcomer) (bool, error) {
	if !l.Logins.Door.owns(p.who, n) {
		return false, nil
	}
	if p.who.User.Auth == moodle.AuthHeader {
		return true, nil
	}
	visit, ok, err := l.Logins.Visits.Store.VisitOf(ctx, p.session)
	return ok && visit.Home == n.Home.Wwwroot && visit.Username == n.Learner, err
}

// visits reports whether a session may be one that a landing has begun.
func (l *Landings) visits(p present) bool {
	return l.Logins.Door != nil && l.Logins.Door.begins(p.who.User.Auth) && !p.who.LoginAs
}

// enter logs an account in. Of the new session the browser learns only when it is
// certain that it is that account's: whatever else Moodle has made of the headers
// is logged out. A login that lacks something, such as a second factor, is the
// account's all the same, and Moodle's own affair.
func (l *Landings) enter(r *http.Request, a Arrival, account gateway.User) Arrival {
	if l.App != nil {
		return l.enterApp(r, a, account)
	}
	ctx, n := r.Context(), Newcomer{a.Home, a.learner, account}
	login, seen, err := l.Logins.Door.logIn(ctx, l.browser(r, ""), n)
	if refused, ok := errors.AsType[refusal](err); ok {
		return l.turnAway(a, refused)
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
	if !l.Logins.Door.owns(who, n) || who.User.Suspended || who.User.Deleted {
		return l.turnAway(a, refusal{gateway.RuleAccountRefused, errors.Join(now.other(), l.expel(r, now))})
	}
	if err = l.Logins.Door.verify(ctx, who, n, seen); err == nil {
		err = l.Logins.Visits.begin(r, a, now)
	}
	refused, isRefused := errors.AsType[refusal](err)
	switch {
	case isRefused:
		return l.turnAway(a, refusal{refused.rule, errors.Join(refused.cause, l.expel(r, now))})
	case errors.Is(err, store.ErrLoggedOut):
		return l.turnAway(a, refusal{gateway.RuleTokenRefused, errors.Join(err, l.expel(r, now))})
	case err != nil: // a logout at home would not end it
		a.Outcome, a.Err = "", errors.Join(err, l.expel(r, now))
		return a
	}
	a.Location, a.Cookies = a.Target.URL(), login.Cookies
	a.account, a.account.ID = account, now.who.User.ID
	return a
}

// other says why a session that Moodle has begun is not the one that was meant.
func (p present) other() error {
	u := p.who.User
	if u.Username == "" && (p.who.Pending() || u.ID == 0) {
		return errors.New("moodle does not say whose the session is that it has begun: if learners have to agree to a policy or to fill in " +
			"their profile first, give landing.token_file or use the identity source moodle-redis, which a second factor needs as well")
	}
	err := fmt.Errorf("moodle has logged in user %d %q (auth %s, suspended %t)", u.ID, u.Username, u.Auth, u.Suspended)
	if u.Auth == moodle.AuthOAuth2 && u.Username == strings.ToLower(u.Email) {
		err = fmt.Errorf("%w: in Moodle's OAuth 2 service, map the field preferred_username to username", err)
	}
	return err
}

// expel ends a session that nobody may have, also if the browser has gone.
func (l *Landings) expel(r *http.Request, p present) error {
	if p.who.User.ID == 0 {
		return nil // nobody's
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), logoutTime)
	defer cancel()
	return l.Logins.Visits.Logout(ctx, l.browser(r, p.session), p.who.User.ID)
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
