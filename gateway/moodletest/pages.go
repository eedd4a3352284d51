package moodletest

import (
	"embed"
	"encoding/json"
	"html/template"
	"strings"
	"time"
)

//go:embed templates/*.html templates/style.css
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"css":        stylesheet,
	"paragraphs": paragraphs,
	"day":        func(t time.Time) string { return t.Format("Monday, 2 January 2006, 15:04") },
	"initials":   initials,
}).ParseFS(files, "templates/*.html"))

func stylesheet() (template.CSS, error) {
	b, err := files.ReadFile("templates/style.css")
	return template.CSS(b), err
}

func paragraphs(text string) []string { return strings.Split(strings.TrimSpace(text), "\n\n") }

// initials returns the first letters of the first two words of a name.
func initials(name string) string {
	words := strings.Fields(name)
	var letters []rune
	for _, word := range words[:min(2, len(words))] {
		letters = append(letters, []rune(word)[0])
	}
	return string(letters)
}

// view is what a template sees: the request's session and the page's data.
type view struct {
	q *request
	D map[string]any
}

// Heading is the page's name, the first part of its title.
func (v view) Heading() string {
	heading, _ := v.D["Heading"].(string)
	return heading
}

// SiteTitle is the site's short name.
func (v view) SiteTitle() string { return v.q.title }

// URL returns the absolute address of a page of the site.
func (v view) URL(path string) string { return v.q.url(path) }

// BodyClass holds the classes by which themes, and readers of pages, tell who
// looks at which kind of page.
func (v view) BodyClass() string {
	layout := "pagelayout-standard"
	switch path := v.q.r.URL.Path; {
	case v.LoginPage(), path == mfaPath:
		layout = "pagelayout-login"
	case path == "/", path == "/index.php":
		layout = "pagelayout-frontpage"
	case path == "/my/":
		layout = "pagelayout-mydashboard"
	case strings.HasPrefix(path, "/mod/"):
		layout = "pagelayout-incourse"
	}
	classes := v.q.kind + " dir-ltr lang-en " + layout
	if !v.LoggedIn() {
		classes += " notloggedin"
	}
	if v.q.s.loginAs() {
		classes += " userloggedinas"
	}
	return classes
}

// LoginPage reports whether this is one of the login pages, which do not
// invite to log in once more.
func (v view) LoginPage() bool { return strings.HasPrefix(v.q.r.URL.Path, "/login/") }

// LoggedIn is true for guests as well.
func (v view) LoggedIn() bool { return v.q.s.loggedIn() }

// Guest is Moodle's shared account.
func (v view) Guest() bool { return v.q.s.guest() }

// Name is the full name of who is logged in.
func (v view) Name() string {
	return v.q.s.user().text("firstname") + " " + v.q.s.user().text("lastname")
}

// FirstName is what a friendly page calls people.
func (v view) FirstName() string { return v.q.s.user().text("firstname") }

// Username is the account's.
func (v view) Username() string { return v.q.s.user().text("username") }

// UserID is $USER->id.
func (v view) UserID() int64 { return v.q.s.currentID() }

// RealName is the administrator's during "log in as", else empty.
func (v view) RealName() string {
	if !v.q.s.loginAs() {
		return ""
	}
	real := v.q.s.object("REALUSER")
	return real.text("firstname") + " " + real.text("lastname")
}

// Sesskey is the session's key, for forms and the log-out link.
func (v view) Sesskey() string { return v.q.s.user().text("sesskey") }

// From is the home of an MNet user: name and wwwroot, or nil.
func (v view) From() *homeLink {
	if v.q.mnet == nil {
		return nil
	}
	return v.q.mnet.homeOf(v.q.s.user().text("mnethostid"))
}

// homeLink is another site as pages show it.
type homeLink struct {
	Name string
	URL  string
}

// Config is the M.cfg object that every page of Moodle 4.5 holds for its
// scripts; readers of pages look for sesskey and userId in it.
func (v view) Config() (template.JS, error) {
	b, err := json.Marshal(struct {
		Wwwroot        string `json:"wwwroot"`
		Apibase        string `json:"apibase"`
		Sesskey        string `json:"sesskey"`
		SessionTimeout string `json:"sessiontimeout"`
		TimeoutWarning string `json:"sessiontimeoutwarning"`
		Theme          string `json:"theme"`
		Language       string `json:"language"`
		ContextID      int    `json:"contextid"`
		UserID         int64  `json:"userId"`
	}{
		v.q.url(""), v.q.url("/r.php/api"), v.Sesskey(), unixDuration(v.q.timeout), "1200", "boost", "en", 1, v.UserID(),
	})
	return template.JS(strings.ReplaceAll(string(b), "/", `\/`)), err
}

func unixDuration(d time.Duration) string { return unixText(time.Unix(int64(d.Seconds()), 0)) }
