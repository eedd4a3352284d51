package moodletest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// HomeOptions describe a home Moodle. Only Wwwroot is required.
type HomeOptions struct {
	Wwwroot      gateway.Wwwroot // what the browser sees; the handler may listen elsewhere
	Title        string
	CookieSuffix string // $CFG->sessioncookie: the cookie is MoodleSession and this
	Sessions     Sessions
	Users        []User // besides guest and, unless one of them is Admin, admin
	Mails        []Mail // shown on the front page

	MFACode string // if not empty, tool_mfa asks everybody for it after the login
	Token   string // if not empty, web services answer to this token

	// Doors opens two logins that ask for nothing but a username, the way
	// OAuth2 (a GET) and SAML (a POST from elsewhere, without a cookie)
	// complete a login. For tests alone.
	Doors bool

	// Key and Peers switch MNet on, as in a 4.5 site with auth_mnet.
	Key   *mnet.Key
	Peers []*gateway.Peer

	Now    func() time.Time // nil: time.Now
	Client *http.Client     // for calls to peers; nil: one with a limit of 30 s
}

// Mail is a forum notification as it lies in a learner's inbox.
type Mail struct {
	From    string
	Subject string
	Site    string // where the forum is
	Course  string
	Excerpt string
	Link    string // the jump link
	Sent    time.Time
}

// Home is a stand-in for the Moodle where the accounts live. Close is not
// needed: it keeps no goroutines.
type Home struct {
	site
	mails atomic.Pointer[[]Mail]
}

// NewHome returns a home Moodle, ready to serve.
func NewHome(o HomeOptions) (*Home, error) {
	if o.Wwwroot.IsZero() {
		return nil, errors.New("a home needs a wwwroot")
	}
	accounts, err := newUsers(o.Wwwroot, o.Users)
	if err != nil {
		return nil, err
	}
	h := &Home{site: site{
		wwwroot: o.Wwwroot, title: o.Title, kind: "home", suffix: o.CookieSuffix,
		now: o.Now, client: o.Client, users: accounts, mfaCode: o.MFACode,
	}}
	if h.title == "" {
		h.title = o.Wwwroot.Hostname()
	}
	h.SetMails(o.Mails)
	h.init(o.Sessions)
	h.loginPages()
	h.ajaxPages()
	h.pictures()
	h.page("/{$}", h.frontPage)
	h.page("/index.php", h.frontPage)
	h.page("/my/", h.dashboard)
	h.webServices(o.Token)
	if o.Doors {
		h.page("/auth/oauth2/login.php", (*request).oauth2Door)
		h.page("/auth/saml2/sp/saml2-acs.php", (*request).samlDoor)
	}
	if o.Key != nil {
		if h.mnet, err = newMNetSite(&h.site, o.Key, o.Peers); err != nil {
			return nil, err
		}
		h.mnet.serveIDP()
	}
	h.page("/", func(q *request) { q.fail("Sorry, the requested file could not be found") })
	return h, nil
}

// SetMails replaces the mails on the front page.
func (h *Home) SetMails(mails []Mail) { h.mails.Store(&mails) }

// Update changes an account in the table alone, as an edit of the database
// does: sessions keep what they know until the next login.
func (h *Home) Update(username string, change func(*User)) {
	if u, ok := h.users.byName(username, localHostID); ok {
		h.users.update(u.ID, change)
	}
}

// EndSessions ends all sessions of an account, as Moodle does when an
// administrator suspends it.
func (h *Home) EndSessions(ctx context.Context, username string) error {
	u, ok := h.users.byName(username, localHostID)
	if !ok {
		return fmt.Errorf("no user %q", username)
	}
	return h.endSessions(ctx, u.ID)
}

func (h *Home) frontPage(q *request) {
	q.render(http.StatusOK, "front.html", map[string]any{"Heading": h.title, "Mails": *h.mails.Load()})
}

func (h *Home) dashboard(q *request) {
	if !q.requireLogin() {
		return
	}
	q.render(http.StatusOK, "dashboard.html", map[string]any{"Heading": "Dashboard", "Mails": *h.mails.Load()})
}

// oauth2Door stands for the last step of auth_oauth2: the browser comes back
// by a GET and is sent straight to the page it wanted, without testsession.
func (q *request) oauth2Door() {
	u, ok := q.users.byName(q.r.URL.Query().Get("username"), localHostID)
	if !ok || u.Suspended || u.Deleted {
		q.s.data().set("loginerrormsg", "Invalid login, please try again")
		q.redirect(q.url("/login/index.php"))
		return
	}
	q.beginLogin(u)
	target := q.returnURL()
	if wantsurl := q.r.URL.Query().Get("wantsurl"); q.localURL(wantsurl) {
		target = wantsurl
	}
	q.redirect(target)
}

// samlDoor stands for an assertion consumer: the identity provider's page
// makes the browser POST here, and browsers send no cookie along with that.
func (q *request) samlDoor() {
	if q.r.Method != http.MethodPost {
		q.fail("Unable to find the current binding.")
		return
	}
	u, ok := q.users.byName(q.r.PostFormValue("username"), localHostID)
	if !ok || u.Suspended || u.Deleted {
		q.fail("You are logged in to your identity provider, but this account has only limited access to Moodle.")
		return
	}
	q.beginLogin(u)
	target := q.returnURL()
	if state := q.r.PostFormValue("RelayState"); q.localURL(state) {
		target = state
	}
	q.redirect(target)
}
