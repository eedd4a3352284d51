package moodletest

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// ForumOptions describe a forum Moodle. Wwwroot and Key are required.
type ForumOptions struct {
	Wwwroot      gateway.Wwwroot
	Title        string
	CookieSuffix string // as in HomeOptions
	Sessions     Sessions
	Users        []User // local accounts; people from the homes need none
	Discussions  []Discussion
	Courses      []Course // that peers may enrol their people in

	// Token, if it is not empty, is one that web services answer to.
	Token string

	// Shibboleth has the plugin auth_shibboleth log people in by Jumpgate's
	// headers. Such a forum may be without Key, which is a Moodle without MNet.
	Shibboleth bool

	// OAuth2 is the one service of the plugin auth_oauth2, nil for none. Such a
	// forum may be without Key as well.
	OAuth2 *OAuth2Service

	// Homes are the identity providers. The certificate of one that has none
	// pinned is fetched from {wwwroot}/mnet/publickey.php on first use.
	Key   *mnet.Key
	Homes []*gateway.Peer

	// Redirects says on the page of a discussion how the reader came, if it
	// is not nil; see Journey.Redirects.
	Redirects func(*http.Request) string

	Now    func() time.Time // nil: time.Now
	Client *http.Client     // for calls to the homes; nil: one with a limit of 30 s
}

// Discussion is a thread of a forum, at /mod/forum/discuss.php?d={ID}.
type Discussion struct {
	ID     int
	Course string
	Forum  string
	Title  string
	Posts  []Post
}

// Post is one message; the page holds it as the element with the id p{ID}.
type Post struct {
	ID      int
	Author  string
	Subject string
	Text    string // paragraphs between blank lines
	Written time.Time
}

// Forum is a stand-in for the Moodle where the discussion is.
type Forum struct {
	site
	discussions []Discussion
	redirects   func(*http.Request) string
	enrolments  *enrolments
}

// NewForum returns a forum Moodle, ready to serve.
func NewForum(o ForumOptions) (*Forum, error) {
	if o.Wwwroot.IsZero() || o.Key == nil && !o.Shibboleth && o.OAuth2 == nil {
		return nil, errors.New("a forum needs a wwwroot, and a key, Shibboleth or OAuth2")
	}
	accounts, err := newUsers(o.Wwwroot, o.Users)
	if err != nil {
		return nil, err
	}
	f := &Forum{discussions: o.Discussions, redirects: o.Redirects, site: site{
		wwwroot: o.Wwwroot, title: o.Title, kind: "forum", suffix: o.CookieSuffix,
		now: o.Now, client: o.Client, users: accounts, shibboleth: o.Shibboleth,
	}}
	if f.title == "" {
		f.title = o.Wwwroot.Hostname()
	}
	f.init(o.Sessions)
	if o.Key != nil {
		if f.mnet, err = newMNetSite(&f.site, o.Key, o.Homes); err != nil {
			return nil, err
		}
		f.mnet.serveSP()
		f.enrolments = &enrolments{mnetSite: f.mnet, courses: o.Courses}
		f.enrolments.serve()
	}
	if o.Shibboleth {
		f.page("/auth/shibboleth/index.php", (*request).shibbolethPage)
	}
	if o.OAuth2 != nil {
		f.oauth2 = &oauth2{OAuth2Service: *o.OAuth2, links: map[string]int64{}}
		f.page("/auth/oauth2/login.php", (*request).oauth2Login)
	}
	f.webServices(o.Token)
	f.loginPages()
	f.ajaxPages()
	f.pictures()
	f.page("/{$}", f.frontPage)
	f.page("/index.php", f.frontPage)
	for _, path := range []string{"/my/", "/mod/forum/view.php", "/course/view.php"} {
		f.page(path, func(q *request) {
			if q.requireLogin() {
				f.frontPage(q)
			}
		})
	}
	f.page("/mod/forum/discuss.php", f.discuss)
	f.page("/", func(q *request) { q.fail("Sorry, the requested file could not be found") })
	return f, nil
}

func (f *Forum) frontPage(q *request) {
	q.render(http.StatusOK, "forumfront.html", map[string]any{"Heading": f.title, "Discussions": f.discussions})
}

func (f *Forum) discuss(q *request) {
	if !q.requireLogin() {
		return
	}
	id, _ := strconv.Atoi(q.r.URL.Query().Get("d"))
	for i := range f.discussions {
		if f.discussions[i].ID != id {
			continue
		}
		data := map[string]any{"Heading": f.discussions[i].Title, "Discussion": &f.discussions[i]}
		if f.redirects != nil {
			data["Redirects"] = f.redirects(q.r)
		}
		q.render(http.StatusOK, "discuss.html", data)
		return
	}
	q.fail("Discussion ID was incorrect or no longer exists")
}
