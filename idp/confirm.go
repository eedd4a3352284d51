package idp

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
)

// ConfirmPath is where, below the wwwroot, the page that asks a learner sends
// the answer.
const ConfirmPath = "/jumpgate/confirm"

const (
	confirmLife = 15 * time.Minute // of the page that asks
	// ConfirmedLife is how long a browser is not asked again about a peer.
	ConfirmedLife = 30 * 24 * time.Hour
	// maxConfirmed is how many peers one browser remembers: the cookie stays
	// below 2 KB.
	maxConfirmed = 32
	maxForm      = 16 << 10 // bytes
)

// Confirmation is a question to the learner: shall this jump take place?
type Confirmation struct {
	Ticket string // answers it, once, in this session, for this jump
	Name   string // of the learner, as others will see it
}

// ticket is a jump that waits for its learner to say yes. It is sealed, so that
// the page that asks costs no round trip.
type ticket struct {
	ID        string            `json:"id"`
	Peer      gateway.Wwwroot   `json:"peer"`
	Wantsurl  string            `json:"wantsurl"`
	Origin    gateway.Origin    `json:"origin"`
	Signature gateway.Signature `json:"signature,omitzero"`
	Expires   time.Time         `json:"expires"`
}

// confirm asks the learner.
func (p *Provider) confirm(a Answer, session string, user gateway.User) Answer {
	t := ticket{
		ID: rand.Text(), Peer: a.Peer.Wwwroot, Wantsurl: a.Wantsurl, Origin: a.Origin, Signature: a.Signature,
		Expires: p.Now().Add(confirmLife),
	}
	text, err := json.Marshal(t)
	if err != nil {
		a.Err = err
		return a
	}
	a.Confirm = &Confirmation{
		Ticket: p.Confirmations.Seal(string(text), p.asked(session, user.Username)),
		Name:   user.FirstName + " " + user.LastName,
	}
	return a
}

// asked names who was asked: a user in a session, which both may change.
func (p *Provider) asked(session, username string) string {
	return strings.Join([]string{"asked", p.Site.String(), session, username}, " ")
}

// Confirm answers the form of the page that asks: the jump takes place, once,
// and the browser remembers the peer. Only that page can have sent it, in the
// session for which it was made.
func (p *Provider) Confirm(w http.ResponseWriter, r *http.Request) Answer {
	if !gateway.Navigation(r.Header) {
		return Answer{}.refuse(gateway.RuleNotNavigation)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil || len(r.PostForm["jump"]) != 1 {
		return Answer{}.refuse(gateway.RuleConfirmOver)
	}
	session, who, err := p.present(r)
	if err != nil {
		return Answer{Err: err}
	}
	var t ticket
	text, err := p.Confirmations.Open(r.PostForm["jump"][0], p.asked(session, who.User.Username))
	if session == "" || err != nil || json.Unmarshal([]byte(text), &t) != nil || !p.Now().Before(t.Expires) {
		return Answer{}.refuse(gateway.RuleConfirmOver)
	}
	a := p.resume(store.Jump{Peer: t.Peer, Wantsurl: t.Wantsurl, Origin: t.Origin, Signature: t.Signature})
	a.confirmed = true
	if a = p.admit(r, a, session, who); a.final() {
		return a
	}
	return p.once(w, r, a, t, session, who)
}

// once lets the jump of a ticket take place. Who sends the form again, as with
// a double click, is asked again.
func (p *Provider) once(w http.ResponseWriter, r *http.Request, a Answer, t ticket, session string, who gateway.Identity) Answer {
	used, err := p.Store.Replayed(r.Context(), sha256.Sum256([]byte("jumpgate ticket\x00"+t.ID)))
	switch {
	case err != nil:
		a.Err = err
		return a
	case used:
		return p.confirm(a, session, who.User)
	}
	token, err := p.Store.Mint(r.Context(), p.grant(r, a, session, who), p.direct(r, a)...)
	if err != nil {
		return a.failed(err)
	}
	p.rememberPeer(w, r, a.Peer, who.User.Username)
	return p.land(a, token)
}

// present returns who is logged in, and the session that says so; "" for
// nobody.
func (p *Provider) present(r *http.Request) (string, gateway.Identity, error) {
	if p.OpenID != nil {
		login, cookie, err := p.login(r)
		return cookie, gateway.Identity{User: login.User}, err
	}
	session := moodle.RequestSession(r, p.Cookie)
	if session == "" {
		return "", gateway.Identity{}, nil
	}
	who, err := p.Source.Identity(r.Context(), p.browser(r, session))
	if err != nil || !who.LoggedIn() {
		return "", gateway.Identity{}, err
	}
	return session, who, nil
}

// peerMark names a peer in the cookie.
func peerMark(peer *gateway.Peer) string {
	sum := sha256.Sum256([]byte(peer.Wwwroot.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// confirmed returns what a browser remembers about a user: until when (Unix
// time) they are not asked about which peers. Others who use the browser are
// asked themselves.
func (p *Provider) confirmed(r *http.Request, username string) map[string]int64 {
	var all map[string]int64
	if cookie, err := r.Cookie(p.confirmCookie); err == nil {
		if text, err := p.Confirmations.Open(cookie.Value, p.confirmedBy(username)); err == nil {
			_ = json.Unmarshal([]byte(text), &all) // it is our own
		}
	}
	return all
}

func (p *Provider) confirmedBy(username string) string {
	return "confirmed " + whose(p.Site, username)
}

// remembers reports whether a user need not be asked about a peer.
func (p *Provider) remembers(r *http.Request, peer *gateway.Peer, username string) bool {
	return p.Now().Unix() < p.confirmed(r, username)[peerMark(peer)]
}

// rememberPeer spares a user the question about a peer.
func (p *Provider) rememberPeer(w http.ResponseWriter, r *http.Request, peer *gateway.Peer, username string) {
	now := p.Now()
	all := map[string]int64{peerMark(peer): now.Add(ConfirmedLife).Unix()}
	for mark, until := range p.confirmed(r, username) {
		if _, has := all[mark]; !has && now.Unix() < until && len(all) < maxConfirmed {
			all[mark] = until
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return // and be asked again
	}
	http.SetCookie(w, &http.Cookie{
		Name: p.confirmCookie, Value: p.Confirmations.Seal(string(text), p.confirmedBy(username)), Path: "/",
		MaxAge: int(ConfirmedLife / time.Second), HttpOnly: true, Secure: p.Site.Scheme() == "https", SameSite: http.SameSiteLaxMode,
	})
}
