package moodletest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"jumpgate/gateway"
)

// User is an account. ID may be 0: then it is numbered in order. MnetHostID 0
// means the site itself.
type User struct {
	gateway.User
	Password string // in the clear: accounts of a stand-in are nobody's
	Admin    bool
	IDNumber string

	// Icon is the picture of who has one, PNG or JPEG, and IconTime when it
	// was uploaded.
	Icon     []byte
	IconTime time.Time
}

// FullName returns first and last name as Moodle shows them.
func (u *User) FullName() string { return u.FirstName + " " + u.LastName }

// users is the table of accounts.
type users struct {
	mu   sync.RWMutex
	rows []User
}

// newUsers adds the two accounts that every Moodle has, guest and admin,
// unless the given ones name an administrator.
func newUsers(site gateway.Wwwroot, given []User) (*users, error) {
	t := &users{rows: []User{{User: gateway.User{
		ID: guestID, Username: "guest", FirstName: "Guest user", LastName: " ",
		Email: "root@localhost", Auth: "manual", Timezone: "99", MnetHostID: localHostID,
	}, Password: "guest"}}}
	if !slices.ContainsFunc(given, func(u User) bool { return u.Admin }) {
		t.rows = append(t.rows, User{User: gateway.User{
			ID: firstUserID, Username: "admin", FirstName: "Admin", LastName: "User",
			Email: "admin@" + site.Hostname(), Auth: "manual", Timezone: "99", MnetHostID: localHostID,
		}, Password: randomText(20, tokenAlphabet), Admin: true})
	}
	for _, u := range given {
		if _, err := t.add(u); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// add completes u with Moodle's defaults and inserts it.
func (t *users) add(u User) (User, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u.Username = strings.ToLower(strings.TrimSpace(u.Username))
	u.MnetHostID = cmp.Or(u.MnetHostID, localHostID)
	u.Auth = cmp.Or(u.Auth, "manual")
	u.Lang = cmp.Or(u.Lang, "en")
	u.Timezone = cmp.Or(u.Timezone, "99")
	if len(u.Icon) > 0 {
		u.Picture = cmp.Or(u.Picture, "1")
	}
	u.Picture = cmp.Or(u.Picture, "0")
	u.MailFormat = cmp.Or(u.MailFormat, "1")
	u.MailDigest = cmp.Or(u.MailDigest, "0")
	u.MailDisplay = cmp.Or(u.MailDisplay, "2")
	last := int64(firstUserID)
	for _, row := range t.rows {
		last = max(last, row.ID)
		if row.Username == u.Username && row.MnetHostID == u.MnetHostID {
			return u, fmt.Errorf("user %q is there twice", u.Username)
		}
		if u.ID != 0 && row.ID == u.ID {
			return u, fmt.Errorf("user id %d is there twice", u.ID)
		}
	}
	u.ID = cmp.Or(u.ID, last+1)
	t.rows = append(t.rows, u)
	return u, nil
}

// all returns copies of the accounts that match accepts.
func (t *users) all(match func(*User) bool) []User {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var found []User
	for i := range t.rows {
		if match(&t.rows[i]) {
			found = append(found, t.rows[i])
		}
	}
	return found
}

// find returns a copy of the first account that match accepts.
func (t *users) find(match func(*User) bool) (User, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range t.rows {
		if match(&t.rows[i]) {
			return t.rows[i], true
		}
	}
	return User{}, false
}

func (t *users) byID(id int64) (User, bool) {
	return t.find(func(u *User) bool { return u.ID == id })
}

func (t *users) byName(username string, mnetHostID int64) (User, bool) {
	return t.find(func(u *User) bool { return u.Username == username && u.MnetHostID == mnetHostID })
}

// update changes the account with the given id.
func (t *users) update(id int64, change func(*User)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.rows {
		if t.rows[i].ID == id {
			change(&t.rows[i])
		}
	}
}

// object returns $USER as get_complete_user_data makes it: the 45 columns of
// the table that travel in a session, and what Moodle adds.
func (u *User) object(now time.Time, ip string) *phpObject {
	o := newObject(
		"id", strconv.FormatInt(u.ID, 10), "auth", u.Auth, "confirmed", "1", "policyagreed", "0",
		"deleted", flag(u.Deleted), "suspended", flag(u.Suspended),
		"mnethostid", strconv.FormatInt(u.MnetHostID, 10), "username", u.Username, "idnumber", u.IDNumber,
		"firstname", u.FirstName, "lastname", u.LastName, "email", u.Email, "emailstop", "0",
		"phone1", "", "phone2", "", "institution", "", "department", "", "address", "",
		"city", u.City, "country", u.Country, "lang", u.Lang, "calendartype", "gregorian", "theme", "",
		"timezone", u.Timezone, "firstaccess", unixText(now), "lastaccess", now.Unix(),
		"lastlogin", unixText(now), "currentlogin", now.Unix(), "lastip", ip, "secret", "",
		"picture", cmp.Or(u.Picture, "0"), "descriptionformat", "1",
		"mailformat", cmp.Or(u.MailFormat, "1"), "maildigest", cmp.Or(u.MailDigest, "0"),
		"maildisplay", cmp.Or(u.MailDisplay, "2"), "autosubscribe", "1", "trackforums", "0",
		"timecreated", unixText(now), "timemodified", unixText(now), "trustbitmask", "0",
		"imagealt", nil, "lastnamephonetic", nil, "firstnamephonetic", nil, "middlename", nil,
		"alternatename", nil, "moodlenetprofile", nil,
		"lastcourseaccess", newArray(), "currentcourseaccess", newArray(), "profile", newArray(),
	)
	if u.ID == guestID {
		o.unset("lang") // guests speak the language of the site
	}
	return o
}

// preferences is $USER->preference: filled for people, empty for guests.
func (u *User) preferences(now time.Time) *phpArray {
	if u.ID == guestID {
		return newArray()
	}
	return newArray(
		"auth_manual_passwordupdatetime", unixText(now), "core_message_migrate_data", "1",
		"core_user_welcome", unixText(now), "login_failed_count_since_success", "0", "_lastloaded", now.Unix(),
	)
}

// addAccess adds what the first page adds to $USER: roles and enrolments.
func addAccess(user *phpObject, now time.Time) {
	role := int64(6) // guest
	if user.text("id") != "0" {
		role = 7 // authenticated user
	}
	if user.get("access") == nil {
		roles := newArray("/1", newArray(role, role))
		user.set("access", newArray("ra", roles, "time", now.Unix(), "rsw", newArray()))
		user.set("enrol", newArray("enrolled", newArray(), "tempguest", newArray()))
	}
	if user.get("preference") == nil {
		user.set("preference", newArray())
	}
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func unixText(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
