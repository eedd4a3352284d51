package moodle

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"jumpgate/gateway"
)

// maxSession bounds a session's text, before and after decompression, in bytes.
const maxSession = 8 << 20

// Session is what a recorded Moodle session says about its user. The strings
// in it share memory with the text that they were read from.
type Session struct {
	// User is the account that is worn: $USER. Of a session that is not
	// logged in it holds the MnetHostID alone. Suspended and Deleted are as
	// they were at login and can be stale.
	User gateway.User

	// RealUserID is who the session belongs to: the administrator of a
	// "login as" session, else User.ID. It is what the hash field userid
	// says.
	RealUserID int64

	LoginAs          bool // an administrator wears User's account
	Guest            bool // Moodle's shared guest account
	MFAAuthenticated bool // $SESSION->tool_mfa_authenticated
	PasswordDue      bool // the user has to choose a new password before anything else
	Empty            bool // a new session into which nothing was written yet
}

// ParseSession reads the raw bytes of a session's hash field sessdata, or of
// the string that Moodle 4.1 to 4.4 keep. It recognises phpredis' serialiser
// (PHP or igbinary) and Moodle's compression (none, gzip or zstd) by
// themselves; a text without phpredis' layer, as in a session file, is read as
// well. What is longer than 8 MiB, cut off or malformed is an error. Errors
// quote nothing of the session.
func ParseSession(raw []byte) (Session, error) {
	return parseSession(string(raw))
}

func parseSession(raw string) (Session, error) {
	if len(raw) > maxSession {
		return Session{}, errTooLarge
	}
	text, err := sessionText(raw)
	if err != nil {
		return Session{}, err
	}
	if text == "" {
		return Session{Empty: true}, nil
	}
	var vars variables
	if err := vars.parse(text); err != nil {
		return Session{}, err
	}
	return vars.session()
}

// sessionText takes phpredis' layer and the compression off a session.
func sessionText(raw string) (string, error) {
	text := raw
	switch value, err := decodeValue(raw); {
	case errors.Is(err, errNotSerialised):
	case err != nil:
		return "", err
	case value.kind == kindNull:
		return "", nil
	case value.kind != kindString:
		return "", errors.New("session data is not a string")
	default:
		text = value.text
	}
	return decompress(text)
}

// session turns the kept variables into what they mean.
func (v *variables) session() (Session, error) {
	u := &v.user
	id, err := userID("id", u[fieldID])
	if err != nil {
		return Session{}, err
	}
	worn, err := userID("realuser", u[fieldRealUser])
	if err != nil {
		return Session{}, err
	}
	owner, err := userID("id", v.realUserID)
	if err != nil {
		return Session{}, err
	}
	if worn != 0 && owner != 0 && worn != owner {
		return Session{}, errors.New("session names two real users")
	}
	s := Session{
		RealUserID:       id,
		LoginAs:          id != 0 && (worn != 0 || v.hasRealUser),
		MFAAuthenticated: v.mfa.truthy(),
		PasswordDue:      v.newPassword.truthy(),
	}
	if s.LoginAs {
		s.RealUserID = max(worn, owner)
	}
	host, err := userID("mnethostid", u[fieldMnetHostID])
	if err != nil {
		return Session{}, err
	}
	s.User.MnetHostID = host
	if id == 0 {
		return s, nil
	}
	s.User = gateway.User{
		ID:          id,
		Username:    u[fieldUsername].String(),
		FirstName:   u[fieldFirstName].String(),
		LastName:    u[fieldLastName].String(),
		Email:       u[fieldEmail].String(),
		Auth:        u[fieldAuth].String(),
		City:        u[fieldCity].String(),
		Country:     u[fieldCountry].String(),
		Lang:        u[fieldLang].String(),
		Timezone:    u[fieldTimezone].String(),
		MailFormat:  u[fieldMailFormat].String(),
		MailDigest:  u[fieldMailDigest].String(),
		MailDisplay: u[fieldMailDisplay].String(),
		Picture:     u[fieldPicture].String(),
		Description: u[fieldDescription].String(),
		MnetHostID:  host,
		Suspended:   u[fieldSuspended].truthy(),
		Deleted:     u[fieldDeleted].truthy(),
	}
	s.Guest = guest(id, s.User.Username)
	return s, nil
}

// userID reads a number of the user record, which is a string after a login
// and an int in a session that is not logged in; absent and null are 0.
func userID(field string, v scalar) (int64, error) {
	if v.kind == kindNull || v.text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil || n < 0 || v.kind != kindInt && v.kind != kindString {
		return 0, fmt.Errorf("session: user field %s is not a number", field)
	}
	return n, nil
}

// String returns the scalar as PHP would convert it, made valid UTF-8.
func (v scalar) String() string {
	if v.kind == kindBool && v.text == "0" {
		return ""
	}
	return strings.ToValidUTF8(v.text, "\uFFFD")
}

// truthy is the negation of PHP's empty().
func (v scalar) truthy() bool {
	switch v.kind {
	case kindString, kindBool:
		return v.text != "" && v.text != "0"
	case kindInt:
		n, err := strconv.ParseInt(v.text, 10, 64)
		return err == nil && n != 0
	}
	return false
}

// Identity says what the session means for a jump. mnetLocalhostID is the
// site's own mnet_localhost_id, 0 for DefaultLocalHostID. mfa says that the
// site uses tool_mfa: a login then counts as pending until the session says
// that its factors are complete. tool_mfa asks no factor of guests and of
// "login as" (source: manager::should_require_mfa).
func (s Session) Identity(mnetLocalhostID int64, mfa bool) gateway.Identity {
	if s.User.ID == 0 {
		return gateway.Identity{}
	}
	return gateway.Identity{
		User:       s.User,
		Remote:     remote(s.User.MnetHostID, mnetLocalhostID),
		Guest:      s.Guest,
		LoginAs:    s.LoginAs,
		MFAPending: mfa && !s.MFAAuthenticated && !s.Guest && !s.LoginAs,
		// Source: require_login in lib/moodlelib.php.
		PasswordDue: s.PasswordDue && !s.Guest && !s.LoginAs,
	}
}

// Summary is what "jumpgate session show" prints of a session: of a "login as"
// session the worn account, of one that is not logged in userid 0 and
// username "".
type Summary struct {
	UserID     int64  `json:"userid"`
	Username   string `json:"username"`
	MnetHostID int64  `json:"mnethostid"`
	Remote     bool   `json:"remote"`
	Guest      bool   `json:"guest"`
	LoginAs    bool   `json:"loginas"`
	MFA        bool   `json:"mfa"` // tool_mfa counts the factors as complete
}

// Summary sums the session up; mnetLocalhostID is as for Identity.
func (s Session) Summary(mnetLocalhostID int64) Summary {
	return Summary{
		UserID:     s.User.ID,
		Username:   s.User.Username,
		MnetHostID: s.User.MnetHostID,
		Remote:     s.User.ID != 0 && remote(s.User.MnetHostID, mnetLocalhostID),
		Guest:      s.Guest,
		LoginAs:    s.LoginAs,
		MFA:        s.MFAAuthenticated,
	}
}
