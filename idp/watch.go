package idp

import (
	"net/http"

	"jumpgate/gateway/moodle"
)

// Watches reports whether Watch has to see what Moodle answers to a request.
func (p *Provider) Watches(r *http.Request) bool {
	if p.OpenID != nil {
		_, err := r.Cookie(p.loginCookie)
		return err == nil
	}
	return p.forgetter != nil && len(r.Header["Cookie"]) > 0
}

// Watch looks at an answer of Moodle's that may end a session or hand it to
// another account, so that nobody is taken for who they were a moment ago.
func (p *Provider) Watch(r *http.Request, res *http.Response) error {
	session := moodle.RequestSession(r, p.Cookie)
	if session == "" {
		return nil
	}
	after, changed := moodle.SetsSession(res.Header, p.Cookie)
	if (!changed || after == session) && r.URL.Path != p.Site.Path()+moodle.PageLoginAs {
		return nil
	}
	if p.OpenID != nil {
		// A logout at the home, or a login as somebody else, is meant for
		// what the browser may do with us as well.
		login, err := r.Cookie(p.loginCookie)
		if err != nil {
			return nil
		}
		return p.Store.EndLogin(r.Context(), login.Value)
	}
	return p.forgetter.Forget(r.Context(), session)
}
