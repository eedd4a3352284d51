package idp

import (
	"crypto/sha1"
	"encoding/hex"
	"net/http"
	"net/url"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// Jump answers a GET or HEAD of the jump address (protocol page, section 7):
// a learner who is logged in goes to the peer, one who is not to Moodle's
// login page, from which Return takes them on. A HEAD is only decided.
func (p *Provider) Jump(w http.ResponseWriter, r *http.Request) Answer {
	a, final := p.ask(r)
	if rule := p.unsigned(a); rule != gateway.RuleOK { // no login would change that
		return a.refuse(rule)
	}
	if final {
		return a
	}
	if p.OpenID != nil {
		return p.jumpByLogin(w, r, a)
	}
	session := moodle.RequestSession(r, p.Cookie)
	var who gateway.Identity
	if session == "" {
		a.OtherCookie = moodle.OtherSession(r, p.Cookie)
	} else {
		if who, a.Err = p.Source.Identity(r.Context(), p.browser(r, session)); a.Err != nil {
			return a
		}
	}
	if !who.LoggedIn() {
		return p.remember(w, r, a, session, who)
	}
	if a = p.admit(r, a, session, who); a.final() {
		return a
	}
	token, err := p.Store.Mint(r.Context(), p.grant(r, a, session, who), p.direct(r, a)...)
	if err != nil {
		return a.failed(err)
	}
	return p.land(a, token)
}

// ask decides what a request asks for, whoever makes it. The Answer is final if
// it refuses or leads to a page of our own, and to a HEAD.
func (p *Provider) ask(r *http.Request) (a Answer, final bool) {
	origin := gateway.OriginOf(r.Header, p.names...)
	query, rule := gateway.ParseQuery(r.URL.RawQuery)
	if rule != gateway.RuleOK {
		return Answer{Rule: rule, Refused: true, Origin: origin}, true
	}
	a = p.decide(query)
	a.Origin = origin
	if p.Links != nil && !a.Refused && a.Location == "" {
		a.Signature = p.Links.Verify(r.Context(), query.Link, a.Peer, query.Wantsurl, a.Target)
	}
	if !a.Refused && !gateway.Navigation(r.Header) {
		a = a.refuse(gateway.RuleNotNavigation)
	}
	return a, a.Refused || a.Location != "" || r.Method == http.MethodHead
}

// remember keeps a jump until its learner has logged in, and sends them to
// the login page. The page's address names the jump, and so will the Referer
// of the form that is sent from it.
func (p *Provider) remember(w http.ResponseWriter, r *http.Request, a Answer, moodleSession string, who gateway.Identity) Answer {
	browser := p.Browsers.Open(r, p.browserCookie)
	jump, err := p.Browsers.Plant(browser, a.planted())
	if err != nil {
		a.Err = err
		return a
	}
	if moodleSession != "" && nobodys(who) {
		browser.Values[fieldAnonymous] = loginMark(moodleSession)
	}
	if err := p.Browsers.Save(r, w, browser); err != nil {
		return a.failed(err)
	}
	page := moodle.PageLogin
	if who.PasswordDue { // the login page would only say who is logged in
		page = moodle.PagePassword
	}
	a.Location = p.Site.String() + page + "?" + jumpParameter + "=" + url.QueryEscape(store.Ref(browser, jump))
	return a
}

// planted returns the jump that waits for a login.
func (a Answer) planted() store.Jump {
	return store.Jump{Peer: a.Peer.Wwwroot, Wantsurl: a.Wantsurl, Origin: a.Origin, Signature: a.Signature}
}

// grant returns what a token for this learner, who has this Moodle session,
// and this peer stands for.
func (p *Provider) grant(r *http.Request, a Answer, session string, who gateway.Identity) store.Grant {
	sum := sha1.Sum([]byte(r.UserAgent()))
	return store.Grant{
		User: who.User, Peer: a.Peer.Wwwroot, UserAgent: hex.EncodeToString(sum[:]),
		Home: p.Secrets.Seal(session, whose(p.Site, who.User.Username)), HomeHash: store.HomeHash(session),
	}
}

// whose names a learner for Secrets.
func whose(site gateway.Wwwroot, username string) string { return site.String() + " " + username }

// land sends the learner to the peer with a token.
func (p *Provider) land(a Answer, token string) Answer {
	a.Landing = true
	a.Location = gateway.LandLink(a.Peer, p.Site, token, a.Target)
	return a
}
