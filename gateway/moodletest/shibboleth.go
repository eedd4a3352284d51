package moodletest

import (
	"regexp"
	"strings"

	"jumpgate/gateway"
)

// shibbolethPage is /auth/shibboleth/index.php of a Moodle whose plugin reads
// Jumpgate's headers, with what a real one was seen to do: an existing session
// wins over the headers, and only its own accounts are logged in.
func (q *request) shibbolethPage() {
	data := q.s.data()
	if target := q.r.URL.Query().Get("target"); data.text("wantsurl") == "" && q.localURL(target) {
		data.set("wantsurl", target)
	}
	const docs = "https://docs.moodle.org/405/en/error/auth_shibboleth/"
	if !q.s.loggedIn() || q.s.guest() {
		username := strings.ToLower(q.serverVariable("USERNAME"))
		if username == "" {
			q.fail("Shibboleth authentication doesn't seem to be set up correctly. " + docs + "shib_not_set_up_error")
			return
		}
		u, ok := q.shibbolethUser(username)
		if !ok {
			q.fail("This user cannot be mapped to a valid account. " + docs + "shib_invalid_account_error")
			return
		}
		q.beginLogin(u)
		q.s.data().set("shibboleth_session_id", "")
	}
	q.redirect(q.returnURL())
}

// serverVariable returns what PHP has as HTTP_X_JUMPGATE_name. It folds all
// spellings of a name to one, and the last value wins.
func (q *request) serverVariable(name string) string {
	value := ""
	for sent, values := range q.r.Header {
		if strings.EqualFold(strings.NewReplacer("-", "_", ".", "_").Replace(sent), "X_JUMPGATE_"+name) {
			value = values[len(values)-1]
		}
	}
	return value
}

var plainUsername = regexp.MustCompile(`^[-._@a-z0-9]{1,100}$`)

// shibbolethUser returns the account that the headers name, made or brought up to
// date from them; false if that is not one which the plugin logs in. A field whose
// header is missing is emptied, and a value ends at its first semicolon.
func (q *request) shibbolethUser(username string) (User, bool) {
	first := func(name string) string {
		value, _, _ := strings.Cut(q.serverVariable(name), ";")
		return strings.TrimRight(value, " \t")
	}
	told := func(u *User) {
		u.FirstName, u.LastName, u.Email = first("FIRSTNAME"), first("LASTNAME"), first("EMAIL")
		u.City, u.Country = first("CITY"), first("COUNTRY")
	}
	u, ok := q.users.byName(username, localHostID)
	if !ok {
		if !plainUsername.MatchString(username) {
			return User{}, false
		}
		u = User{User: gateway.User{Username: username, Auth: "shibboleth", Lang: first("LANG")}}
		told(&u)
		u, err := q.users.add(u)
		return u, err == nil
	}
	if u.Auth != "shibboleth" || u.Suspended || u.Deleted {
		return User{}, false
	}
	q.users.update(u.ID, told)
	told(&u)
	return u, true
}

// Update changes an account in the table alone, as Home.Update does.
func (f *Forum) Update(username string, change func(*User)) {
	if u, ok := f.users.byName(username, localHostID); ok {
		f.users.update(u.ID, change)
	}
}

// UpdateVisitor is Update for an account that MNet has made.
func (f *Forum) UpdateVisitor(username string, change func(*User)) {
	if u, ok := f.users.find(func(u *User) bool { return u.Username == username && u.Auth == "mnet" }); ok {
		f.users.update(u.ID, change)
	}
}

// User returns a local account.
func (f *Forum) User(username string) (User, bool) { return f.users.byName(username, localHostID) }
