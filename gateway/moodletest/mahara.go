package moodletest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// MaharaOptions describe a Mahara. Wwwroot and Key are required.
type MaharaOptions struct {
	Wwwroot gateway.Wwwroot
	Title   string
	Key     *mnet.Key
	Users   []User // local accounts; people from the homes need none

	// Peers are the other sites. "They SSO in" from one whose service sso_idp
	// is subscribed to, "we SSO out" to one to which it is published; without
	// grants they SSO in. The certificate of one that has none pinned is
	// fetched by keyswap on first use.
	Peers []*gateway.Peer

	NoNewUsers  bool // weautocreateusers is off
	UpdateUsers bool // updateuserinfoonlogin is on

	MaxTimeDifference time.Duration // xmlrpcmaxservertimedifference, 15 s to 5 min; 0: 15 s

	Now    func() time.Time // nil: time.Now
	Client *http.Client     // for calls to peers; nil: one with a limit of 30 s
}

// Mahara is a stand-in for a Mahara 23.04 on PHP 8, as service provider and as
// identity provider. What it does is read from Mahara's htdocs/api/xmlrpc,
// htdocs/auth/xmlrpc and htdocs/lib/peer.php, and from PHP's extension xmlrpc.
type Mahara struct {
	endpoint
	options MaharaOptions
	wwwroot gateway.Wwwroot
	keys    keyring
	mux     *http.ServeMux
	users   *users
	peers   []*maharaPeer

	mu       sync.Mutex
	sessions map[string]maharaSession // by cookie
	jumps    map[int64]maharaJump     // sso_session, by user: one for each
}

// maharaPeer is a row of the table host.
type maharaPeer struct {
	gateway.Peer
	id int64 // of the authentication instance

	mu          sync.Mutex
	certificate *gateway.Certificate
}

// maharaSession is a browser that is logged in.
type maharaSession struct {
	userID int64
	home   *maharaPeer // where the user came from; nil for local logins
}

// maharaJump is a token that somebody left with.
type maharaJump struct {
	token   string
	expires time.Time
	cookie  string
}

const (
	maharaCookie     = "mahara"
	maharaKeyHistory = 6
	maharaLifetime   = 1440 * time.Second // session.gc_maxlifetime
)

// NewMahara returns a Mahara, ready to serve.
func NewMahara(o MaharaOptions) (*Mahara, error) {
	if o.Wwwroot.IsZero() || o.Key == nil {
		return nil, errors.New("a Mahara needs a wwwroot and a key")
	}
	accounts, err := newUsers(o.Wwwroot, o.Users)
	if err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: 30 * time.Second}
	}
	o.Title = cmp.Or(o.Title, o.Wwwroot.Hostname())
	o.MaxTimeDifference = min(max(o.MaxTimeDifference, 15*time.Second), 5*time.Minute)
	m := &Mahara{
		options: o, wwwroot: o.Wwwroot, users: accounts, mux: http.NewServeMux(),
		keys:     keyring{keys: []*mnet.Key{o.Key}, history: maharaKeyHistory},
		sessions: map[string]maharaSession{}, jumps: map[int64]maharaJump{},
	}
	for i, p := range o.Peers {
		row := &maharaPeer{Peer: *p, id: int64(i + 2), certificate: p.Certificate}
		row.Application = cmp.Or(p.Application, gateway.Moodle)
		if p.Publish == nil && p.Subscribe == nil {
			row.Subscribe = []string{gateway.ServiceSSOIDP}
		}
		m.peers = append(m.peers, row)
	}
	m.mux.HandleFunc("/api/xmlrpc/server.php", m.serveRPC)
	m.mux.HandleFunc("/auth/xmlrpc/land.php", m.land)
	m.mux.HandleFunc("/auth/xmlrpc/jump.php", m.loggedIn(m.jump))
	m.mux.HandleFunc("/view/view.php", m.loggedIn(m.view))
	m.mux.HandleFunc("/{$}", m.frontPage)
	return m, nil
}

// ServeHTTP serves the pages below the path of the wwwroot.
func (m *Mahara) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.StripPrefix(m.wwwroot.Path(), m.mux).ServeHTTP(w, r)
}

// ArchiveKey makes key the site's current one. Of the former ones six are kept.
func (m *Mahara) ArchiveKey(key *mnet.Key) { m.keys.archive(key) }

// JumpLink returns what Mahara makes of a link to one of its pages, such as
// "/view/view.php?id=3", in a mail to somebody from a home: the page has lost
// its slash (localurl_to_jumpurl (source)).
func (m *Mahara) JumpLink(home gateway.Wwwroot, application gateway.Application, page string) string {
	return home.String() + application.JumpPath() + "?hostwwwroot=" + m.wwwroot.String() +
		"&wantsurl=" + phpEscape(strings.TrimPrefix(page, "/"))
}

func (m *Mahara) peerNamed(wwwroot string) *maharaPeer {
	if i := slices.IndexFunc(m.peers, func(p *maharaPeer) bool { return p.Wwwroot.String() == wwwroot }); i >= 0 {
		return m.peers[i]
	}
	return nil
}

// get is get_peer: it returns the peer's certificate, and whenever it does, it
// compares its common name, and nothing else, with the wwwroot.
func (m *Mahara) get(ctx context.Context, p *maharaPeer) (*gateway.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.certificate == nil {
		c, err := m.keyswap(ctx, p)
		if err != nil {
			return nil, err
		}
		p.certificate = c
	}
	wwwroot := p.Wwwroot.String()
	if name, _ := subject(p.certificate); name != wwwroot[:min(len(wwwroot), 64)] {
		return nil, fmt.Errorf("the certificate is for %s, not for %s", name, wwwroot)
	}
	return p.certificate, nil
}

func (p *maharaPeer) pin(c *gateway.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.certificate = c
}

// session returns whose browser it is.
func (m *Mahara) session(r *http.Request) (maharaSession, User, bool) {
	c, err := r.Cookie(maharaCookie)
	if err != nil {
		return maharaSession{}, User{}, false
	}
	m.mu.Lock()
	s, ok := m.sessions[c.Value]
	m.mu.Unlock()
	u, known := m.users.byID(s.userID)
	return s, u, ok && known
}

// logIn gives the browser a new session.
func (m *Mahara) logIn(w http.ResponseWriter, userID int64, home *maharaPeer) {
	sid := randomText(32, tokenAlphabet)
	m.mu.Lock()
	m.sessions[sid] = maharaSession{userID, home}
	m.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: maharaCookie, Value: sid, Path: m.wwwroot.Path() + "/", HttpOnly: true})
}

// logOut ends the session of this browser.
func (m *Mahara) logOut(r *http.Request) {
	if c, err := r.Cookie(maharaCookie); err == nil {
		m.mu.Lock()
		delete(m.sessions, c.Value)
		m.mu.Unlock()
	}
}

// endSessions ends all sessions of a user.
func (m *Mahara) endSessions(userID int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for sid, s := range m.sessions {
		if s.userID == userID {
			delete(m.sessions, sid)
		}
	}
	delete(m.jumps, userID)
}

// loggedIn shows the login form, at the same address, to whom it does not know.
func (m *Mahara) loggedIn(page func(http.ResponseWriter, *http.Request, User)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, u, ok := m.session(r)
		if ok {
			page(w, r, u)
			return
		}
		if r.Method == http.MethodPost {
			if u, ok := m.users.byName(r.PostFormValue("login_username"), localHostID); ok && u.Password == r.PostFormValue("login_password") {
				m.logIn(w, u.ID, nil)
				redirectMahara(w, m.wwwroot.String()+r.URL.RequestURI())
				return
			}
		}
		m.page(w, http.StatusOK, "Log in", `<form method="post"><input name="login_username"><input name="login_password" type="password"><button>Login</button></form>`)
	}
}

func (m *Mahara) view(w http.ResponseWriter, r *http.Request, u User) {
	m.page(w, http.StatusOK, "Page "+strconv.Quote(r.URL.Query().Get("id")), "<p>You are logged in as "+u.FullName()+"</p>")
}

// frontPage shows the links of the block "Network servers" and logs people out:
// whoever came from a home ends there.
func (m *Mahara) frontPage(w http.ResponseWriter, r *http.Request) {
	s, u, ok := m.session(r)
	if r.URL.Query().Has("logout") {
		m.logOut(r)
		if ok && s.home != nil {
			// It only writes to its log what comes back.
			_, _ = m.call(r.Context(), s.home, "auth/mnet/auth.php/kill_children", u.Username, userAgentHash(r))
			redirectMahara(w, s.home.Wwwroot.String())
			return
		}
	}
	var links strings.Builder
	for _, p := range m.peers {
		if ok && p.Publishes(gateway.ServiceSSOIDP) {
			links.WriteString(`<a href="` + m.wwwroot.String() + "/auth/xmlrpc/jump.php?wr=" + p.Wwwroot.String() +
				"&amp;ins=" + strconv.FormatInt(p.id, 10) + `">` + p.Label() + "</a>")
		}
	}
	m.page(w, http.StatusOK, "Home", links.String())
}

// page writes a page. Its parts are those of a test.
func (m *Mahara) page(w http.ResponseWriter, status int, heading, html string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html><head><title>%s - %s</title></head><body><h1>%s</h1>%s</body></html>", heading, m.options.Title, heading, html)
}

func redirectMahara(w http.ResponseWriter, target string) {
	w.Header().Set("Location", headerURL(target))
	w.WriteHeader(http.StatusSeeOther)
}
