package idp

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/gorilla/sessions"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// Expects reports whether a browser may have a jump pending, so that Return
// wants to see what Moodle answers it. It costs no round trip.
func (p *Provider) Expects(r *http.Request) bool {
	if p.OpenID != nil {
		return false // the jumps of its browsers wait for Callback
	}
	return mentions(r, p.browserPrefix) && (r.Method == http.MethodGet || r.Method == http.MethodPost) && gateway.Navigation(r.Header)
}

// Return looks at what Moodle answers a browser that has a jump pending, and
// reports false if the answer is to be passed on. If the answer completes a
// login, or the learner is logged in and looks at the login page, the jump
// takes place instead: the Answer replaces Moodle's, and all of Moodle's
// cookies ride on it.
//
// The completion is seen in Moodle's session, not in addresses, so any login
// page will do: form, OAuth2, SAML, CAS, a second factor.
func (p *Provider) Return(w http.ResponseWriter, r *http.Request, res *http.Response) (Answer, bool) {
	moodleSession, changed := moodle.SetsSession(res.Header, p.Cookie)
	if !changed {
		moodleSession = moodle.RequestSession(r, p.Cookie)
	}
	if moodleSession == "" || !replaceable(res) || !changed && !p.mayComplete(r) {
		return Answer{}, false
	}
	browser, err := p.Browsers.New(r, p.browserCookie)
	if err != nil {
		return Answer{Err: err}, false
	}
	jump, ok, err := p.pick(r, browser)
	if err != nil || !ok {
		return Answer{Err: err}, false
	}
	login := loginMark(moodleSession)
	switch {
	case !changed && browser.Values[fieldAnonymous] == login:
		// Moodle changes the session at every login.
		p.keepName(r, res)
		return Answer{}, false
	case store.HonouredLogin(browser) == login && !loginPage(r, p.Site):
		// This login has had its jump. What is left waits for another
		// login or a visit to the login page.
		return Answer{}, false
	}
	who, err := p.Source.Identity(r.Context(), p.browser(r, moodleSession))
	if err == nil && !who.LoggedIn() {
		p.keepName(r, res)
		if nobodys(who) {
			err = p.nobody(w, r, browser, login)
		}
	}
	if err != nil || !who.LoggedIn() {
		return Answer{Err: err}, false
	}
	return p.complete(w, r, browser, jump, moodleSession, who)
}

// nobody remembers that a session is nobody's. After a logout nothing is left
// pending: the next to log in may be somebody else.
func (p *Provider) nobody(w http.ResponseWriter, r *http.Request, browser *sessions.Session, login string) error {
	if store.HonouredLogin(browser) != "" {
		browser.Options.MaxAge = -1
		return p.Browsers.Save(r, w, browser)
	}
	browser.Values[fieldAnonymous] = login
	err := p.Browsers.Save(r, w, browser)
	// The browser has the cookie, and this page may be one that caches share.
	w.Header().Del("Set-Cookie")
	return err
}

// mayComplete reports whether a request that does not change Moodle's session
// may still complete a login: a page that is asked for, or a form of the login
// itself. The answer to any other form is never replaced, or what it says
// would be lost.
func (p *Provider) mayComplete(r *http.Request) bool {
	path, ok := strings.CutPrefix(r.URL.Path, p.Site.Path())
	return ok && (r.Method == http.MethodGet || path == moodle.PageLogin || path == moodle.PageMFA)
}

// complete lets the jump take place, or says why it does not.
func (p *Provider) complete(w http.ResponseWriter, r *http.Request, browser *sessions.Session, jump pending, moodleSession string, who gateway.Identity) (Answer, bool) {
	login := loginMark(moodleSession)
	a := p.resume(jump.Jump)
	if jump.ref != "" {
		// Anybody may plant a jump in a browser of their own, and name it here.
		a.Origin = gateway.OriginCross
	}
	a = p.admit(r, a, moodleSession, who)
	if a.Err != nil {
		return Answer{Err: a.Err}, false
	}
	if !a.final() {
		token, won, err := p.claim(r, browser, jump, login, p.grant(r, a, moodleSession, who), p.landing(a))
		limited := a.failed(err)
		switch {
		case err != nil && limited.Refused: // the login itself is done, and nobody is kept from Moodle
			a = limited
		case err != nil || !won:
			return Answer{Err: err}, false
		default:
			a = p.land(a, token)
		}
	}
	if !a.Landing { // without a token
		store.Drop(browser, jump.Jump, login)
		if err := p.Browsers.Save(r, w, browser); err != nil {
			return Answer{Err: err}, false
		}
	}
	if jump.left == 0 {
		_ = p.Browsers.End(r, w, browser) // or it ends when its time has come
	}
	return a, true
}

func (p *Provider) claim(r *http.Request, browser *sessions.Session, jump pending, login string, g store.Grant, charges []store.Charge) (string, bool, error) {
	if jump.ref != "" {
		return p.Store.ClaimRef(r.Context(), jump.ref, login, g, charges...)
	}
	return p.Store.Claim(r.Context(), browser.ID, jump.ID, login, g, charges...)
}

// fieldAnonymous holds, in the browser's session, the mark of the Moodle
// session that was last found to be nobody's, so that Moodle is not asked
// about it again and again: asking has side effects (see moodle.Web).
const fieldAnonymous = "anonymous"

// nobodys reports whether a session is nobody's and stays so to its end.
// That of a login which lacks something will be somebody's.
func nobodys(who gateway.Identity) bool { return !who.LoggedIn() && !who.Pending() }

// replaceable reports whether an answer is one that a browser shows or
// follows, and that says nothing which would be missed.
func replaceable(res *http.Response) bool {
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
		return true
	case http.StatusOK:
		return strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") && res.Header.Get("Content-Disposition") == ""
	}
	return false
}

// loginMark stands for a Moodle session without telling its id.
func loginMark(session string) string {
	sum := sha256.Sum256([]byte("jumpgate login\x00" + session))
	return hex.EncodeToString(sum[:16])
}
