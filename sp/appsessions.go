package sp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
)

// AppSessions are the sessions of learners at a site whose application has none for
// them: any that is not Moodle, and is told by Assertions who makes a request.
type AppSessions struct {
	Site       gateway.Wwwroot
	Peers      *gateway.Allowlist // the homes
	Store      *store.Site
	Assertions *Assertions
	Idle, Life time.Duration // a session ends after Life, or Idle without a request
	Now        func() time.Time

	mu     sync.Mutex
	lately map[string]signed // by cookie
}

// signed is a session with the assertion that was made for it.
type signed struct {
	session   store.AppSession
	assertion string
	until     time.Time // it is used again
}

const (
	// assertionUsed is how long an assertion is used again: what an application
	// gets is good for the other half of its life at least.
	assertionUsed = AssertionLife / 2
	maxSigned     = 10_000
)

// Assertion returns what the application is told of who makes a request: an
// assertion, or "" for nobody. One round trip to Redis, or none without a
// cookie; an error means that nobody can tell.
//
// A learner of a home that may not send them any more is nobody.
func (a *AppSessions) Assertion(r *http.Request) (string, error) {
	cookie := a.cookieOf(r)
	if cookie == "" {
		return "", nil
	}
	now := a.Now()
	a.mu.Lock()
	known, ok := a.lately[cookie]
	a.mu.Unlock()
	if ok && now.Before(known.until) {
		lasts, err := a.Store.KeepAppSession(r.Context(), cookie, a.Idle)
		if err != nil || !lasts || !a.holds(known.session, now) {
			return "", err
		}
		return known.assertion, nil
	}
	session, ok, err := a.Store.AppSession(r.Context(), cookie, a.Idle)
	if err != nil || !ok || !a.holds(session, now) {
		return "", err
	}
	assertion, err := a.Assertions.Sign(session)
	if err != nil {
		return "", err
	}
	a.remember(cookie, signed{session, assertion, now.Add(assertionUsed)}, now)
	return assertion, nil
}

// holds reports whether a session is as good as when it began.
func (a *AppSessions) holds(session store.AppSession, now time.Time) bool {
	home := a.Peers.Caller(session.Home.String(), now)
	return now.Before(session.Expires) && home != nil && home.Wwwroot == session.Home &&
		home.Subscribes(gateway.ServiceSSOIDP) && home.Access.Allows(session.Username)
}

// remember keeps an assertion to be used again. If there are too many, those of
// the others are signed anew.
func (a *AppSessions) remember(cookie string, s signed, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.lately) >= maxSigned {
		for other, old := range a.lately {
			if !now.Before(old.until) {
				delete(a.lately, other)
			}
		}
	}
	if a.lately == nil || len(a.lately) >= maxSigned {
		a.lately = map[string]signed{}
	}
	a.lately[strings.Clone(cookie)] = s // not all that the browser has sent
}

// begin begins a session in place of the one that a request is part of, and returns
// the cookie that stands for it.
func (a *AppSessions) begin(r *http.Request, session store.AppSession) (*http.Cookie, error) {
	former := a.cookieOf(r)
	cookie, err := a.Store.BeginAppSession(r.Context(), session, a.Life, a.Idle, former)
	if err != nil {
		return nil, err
	}
	a.forget(former)
	return a.cookie(cookie), nil
}

// End ends the session that a request is part of, also if the browser has gone, and
// returns it, zero for none, with the cookie that says so. Its home is not told.
func (a *AppSessions) End(r *http.Request) (store.AppSession, *http.Cookie, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), logoutTime)
	defer cancel()
	former := a.cookieOf(r)
	a.forget(former)
	session, _, err := a.Store.AppSession(ctx, former, a.Idle)
	if err := errors.Join(err, a.Store.EndAppSession(ctx, former)); err != nil {
		return store.AppSession{}, nil, fmt.Errorf("logout: %w", err)
	}
	gone := a.cookie("")
	gone.MaxAge = -1
	return session, gone, nil
}

func (a *AppSessions) forget(cookie string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.lately, cookie)
}

func (a *AppSessions) cookieOf(r *http.Request) string {
	cookie, err := r.Cookie(a.Site.CookieName("session"))
	if err != nil {
		return ""
	}
	return cookie.Value
}

// cookie ends with the browser, at the latest.
func (a *AppSessions) cookie(value string) *http.Cookie {
	return &http.Cookie{
		Name: a.Site.CookieName("session"), Value: value, Path: "/",
		HttpOnly: true, Secure: a.Site.Scheme() == "https", SameSite: http.SameSiteLaxMode,
	}
}

// authApp is what the accounts of an application have instead of a login of
// Moodle's.
const authApp = "jumpgate"

// present returns who uses a browser.
func (a *AppSessions) present(r *http.Request) (present, error) {
	cookie := a.cookieOf(r)
	session, ok, err := a.Store.AppSession(r.Context(), cookie, a.Idle)
	if err != nil || !ok || !a.holds(session, a.Now()) {
		return present{}, err
	}
	who := gateway.Identity{User: session.User}
	who.User.Auth = authApp
	return present{cookie, who}, nil
}

// logInApp lets the learner of an account land at an application: after a question
// if another one is logged in. The same one gets a new session too, with what their
// home says of them now.
func (l *Landings) logInApp(r *http.Request, a Arrival, account gateway.User) Arrival {
	switch {
	case !a.present.loggedIn():
		a.Outcome = OutcomeLanded
	case a.present.who.User.Username == account.Username:
		a.Outcome = OutcomeSame
	default:
		return l.askAccount(a, account, false)
	}
	return l.enterApp(r, a, account)
}

// enterApp begins a session.
func (l *Landings) enterApp(r *http.Request, a Arrival, account gateway.User) Arrival {
	username, err := l.Header.Names.Username(a.Home.Wwwroot, account.Username)
	if err != nil { // the configuration has changed since the learner was asked
		return l.turnAway(a, refusal{gateway.RuleAccountRefused, err})
	}
	cookie, err := l.App.begin(r, store.AppSession{Home: a.Home.Wwwroot, Username: username, User: account})
	if err != nil {
		a.Outcome, a.Err = "", err
		return a
	}
	a.Location, a.Session = a.Target.URL(), cookie
	return a
}
