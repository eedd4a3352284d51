package idp

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// watchTime bounds how long an answer waits for Redis.
const watchTime = 2 * time.Second

// Watches reports whether Watch has to see what Moodle answers to a request.
func (p *Provider) Watches(r *http.Request) bool {
	if p.OpenID == nil {
		return moodle.RequestSession(r, p.Cookie) != ""
	}
	if !mentions(r, p.loginPrefix) { // as almost all; the parser allocates
		return false
	}
	_, err := r.Cookie(p.loginCookie)
	return err == nil
}

// mentions reports whether there is a mark in a request's cookies.
func mentions(r *http.Request, mark string) bool {
	for _, line := range r.Header["Cookie"] {
		if strings.Contains(line, mark) {
			return true
		}
	}
	return false
}

// Watch looks at an answer of Moodle's that may end a session or hand it to
// another account, so that nobody is taken for who they were a moment ago, and
// that the learner's sessions at peers end with it. Moodle replaces a session
// at each login and logout, and one that has timed out when it is used next.
func (p *Provider) Watch(r *http.Request, res *http.Response) error {
	after, changed := moodle.SetsSession(res.Header, p.Cookie)
	loginAs := p.forgetter != nil && r.URL.Path == p.Site.Path()+moodle.PageLoginAs
	if !changed && !loginAs {
		return nil
	}
	session := moodle.RequestSession(r, p.Cookie)
	if session == "" || after == session && !loginAs {
		return nil
	}
	// The learner may be gone, who has seen all of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), watchTime)
	defer cancel()
	if p.OpenID != nil {
		return p.watchLogin(ctx, r)
	}
	if changed && after != session {
		p.endedAtHome(ctx, session)
	}
	if p.forgetter == nil {
		return nil
	}
	return p.forgetter.Forget(ctx, session)
}

// endedAtHome ends the sessions at peers that began from one which is over, as
// soon as Redis can say which.
func (p *Provider) endedAtHome(ctx context.Context, session string) {
	ending := p.Store.Ending(session)
	l := mnet.Logout{Site: p.Site, Cause: mnet.CauseHome, Tries: 1, Err: p.homeEnded(ctx, ending, mnet.CauseHome)}
	unknown := func(l mnet.Logout) {
		if !l.Done() {
			l.Outcome = mnet.OutcomeUnknown
			p.Children.Observe(l)
		}
	}
	switch {
	case l.Err == nil:
	case errors.Is(l.Err, store.ErrUnavailable):
		l.Outcome = mnet.OutcomeFailed
		p.Children.Start(l, func(ctx context.Context) (mnet.Value, error) { return true, p.homeEnded(ctx, ending, mnet.CauseHome) }, unknown)
	default:
		unknown(l)
	}
}

// watchLogin ends what a browser may do with us when Moodle's session changes:
// a logout there is meant for that too, and so is a login as somebody else,
// which leaves the sessions at peers alone. So does what another site's page
// asks for: Moodle wants a key of those alone who are logged in there.
func (p *Provider) watchLogin(ctx context.Context, r *http.Request) error {
	login, err := r.Cookie(p.loginCookie)
	if err != nil {
		return nil
	}
	if r.URL.Path == p.Site.Path()+moodle.PageLogout && gateway.Navigation(r.Header) && fromOwnPage(r) {
		p.endedAtHome(ctx, login.Value)
	}
	return p.Store.EndLogin(ctx, login.Value)
}

// fromOwnPage reports whether the learner asked for a page from another one
// of the same site or by its address.
func fromOwnPage(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin" || site == "none"
	}
	from, err := url.Parse(r.Referer())
	return err == nil && from.Host != "" && strings.EqualFold(from.Host, r.Host)
}
