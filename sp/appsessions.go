package sp

import (
	"cmp"
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
	Visits     *Visits       // the same sessions, as homes see them
	Idle, Life time.Duration // a session ends after Life, or Idle without a request
	Now        func() time.Time
	Looks      time.Duration // how often Lasting looks again; 0 for half a minute

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
		a.Visits.note(cookie)
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
	a.Visits.note(cookie)
	a.remember(cookie, signed{session, assertion, now.Add(assertionUsed)}, now)
	return assertion, nil
}

// Lasting returns a request in place of one of a learner's that may last, such as a
// websocket: it ends soon after their session. While nobody can tell, it goes on.
// Whoever calls it calls stop in the end.
func (a *AppSessions) Lasting(r *http.Request) (lasting *http.Request, stop func()) {
	ctx, cancel := context.WithCancel(r.Context())
	r = r.WithContext(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		ticker := time.NewTicker(cmp.Or(a.Looks, assertionUsed))
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if assertion, err := a.Assertion(r); err == nil && assertion == "" {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return r, func() { cancel(); looking.Wait() }
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
// the cookie that stands for it. It is store.ErrLoggedOut if the learner was asked, and
// has logged out at home meanwhile.
func (a *AppSessions) begin(r *http.Request, session store.AppSession, asked bool) (*http.Cookie, error) {
	former := a.cookieOf(r)
	cookie, err := a.Store.BeginAppSession(r.Context(), store.AppLanding{
		Session: session, UserAgent: agentHash(r), Life: a.Life, Idle: a.Idle, Former: former, Awaited: asked,
	})
	if err != nil {
		return nil, err
	}
	a.forget(former)
	return a.cookie(cookie), nil
}

// Leave ends the session that a request is part of, also if the browser has gone, here
// and then at home, and returns the cookie that says so. The Departure is zero if
// there was no session.
func (a *AppSessions) Leave(r *http.Request) (d Departure, gone *http.Cookie, err error) {
	cookie := a.cookieOf(r)
	a.forget(cookie)
	visit, ok, err := a.end(r, cookie)
	if err != nil {
		return d, nil, fmt.Errorf("logout: %w", err)
	}
	if ok {
		d = a.Visits.depart(r, visit)
	}
	gone = a.cookie("")
	gone.MaxAge = -1
	return d, gone, nil
}

// end ends a session here and returns the visit that it was, if there was one. What
// Redis has lost of it is no reason to leave the rest.
func (a *AppSessions) end(r *http.Request, cookie string) (store.Visit, bool, error) {
	if cookie == "" {
		return store.Visit{}, false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), logoutTime)
	defer cancel()
	visit, ok, err := a.Store.VisitOf(ctx, cookie)
	if !ok {
		visit = store.Visit{Hash: store.HomeHash(cookie)}
	}
	if err == nil {
		err = a.Store.EndVisit(ctx, visit)
	}
	return visit, ok, err
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
		if a.Err = l.App.Store.Await(r.Context(), a.Home.Wwwroot, a.learner, agentHash(r)); a.Err != nil {
			return a
		}
		return l.askAccount(a, account, false)
	}
	return l.enterApp(r, a, account)
}

// enterApp begins a session.
func (l *Landings) enterApp(r *http.Request, a Arrival, account gateway.User) Arrival {
	if name, err := l.Logins.Names.Of(a.Home.Wwwroot, a.learner); err != nil || name != account.Username { // since the learner was asked
		return l.turnAway(a, refusal{gateway.RuleAccountRefused, errors.New("the configuration gives accounts other names by now")})
	}
	cookie, err := l.App.begin(r, store.AppSession{Home: a.Home.Wwwroot, Username: a.learner, User: account}, a.asked)
	switch {
	case errors.Is(err, store.ErrLoggedOut):
		return l.turnAway(a, refusal{gateway.RuleTokenRefused, err})
	case err != nil:
		a.Outcome, a.Err = "", err
		return a
	}
	a.Location, a.Session = a.Target.URL(), cookie
	return a
}
