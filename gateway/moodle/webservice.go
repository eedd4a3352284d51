package moodle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"jumpgate/gateway"
)

const (
	wsUsersByField  = "core_user_get_users_by_field"
	wsTimeRemaining = "core_session_time_remaining"
)

// userRecord is what core_user_get_users_by_field tells of a user, to himself
// or to somebody with the capabilities (source: user_get_user_details in
// user/lib.php). There is no mnethostid: of a remote account only auth differs.
// What hiddenuserfields hides, perhaps suspended, is missing. The description
// is left out because it comes formatted, not as it is stored.
type userRecord struct {
	ID         int64       `json:"id"`
	Username   string      `json:"username"`
	FirstName  string      `json:"firstname"`
	LastName   string      `json:"lastname"`
	Email      string      `json:"email"`
	IDNumber   string      `json:"idnumber"`
	Auth       string      `json:"auth"`
	Suspended  bool        `json:"suspended"`
	City       string      `json:"city"`
	Country    string      `json:"country"`
	Lang       string      `json:"lang"`
	Timezone   string      `json:"timezone"`
	MailFormat json.Number `json:"mailformat"`
	ImageURL   string      `json:"profileimageurl"`
}

// picture returns user.picture, which is in the address of the picture
// (source: get_url in lib/classes/output/user_picture.php). Any other address,
// the theme's or Gravatar's, leaves open whether there is one.
func (u userRecord) picture() string {
	address, err := url.Parse(u.ImageURL)
	if err != nil || !strings.Contains(address.Path, "/user/icon/") {
		return ""
	}
	return address.Query().Get("rev")
}

func (u userRecord) identity() gateway.Identity {
	return gateway.Identity{
		User: gateway.User{
			ID:         u.ID,
			Username:   u.Username,
			FirstName:  u.FirstName,
			LastName:   u.LastName,
			Email:      u.Email,
			Auth:       u.Auth,
			City:       u.City,
			Country:    u.Country,
			Lang:       u.Lang,
			Timezone:   u.Timezone,
			MailFormat: u.MailFormat.String(),
			Picture:    u.picture(),
			Suspended:  u.Suspended,
		},
		Remote: u.Auth == "mnet",
		Guest:  guest(u.ID, u.Username),
	}
}

// wsException is how Moodle says no, with status 200. Of its texts only the
// code is kept: the others are in the language of somebody.
type wsException struct {
	Function  string
	ErrorCode string
}

func (e *wsException) Error() string {
	hint := ""
	switch e.ErrorCode {
	case "invalidtoken":
		hint = ": the web service token is not valid"
	case "accessexception":
		hint = ": the token's service does not contain the function, or its user may not use it"
		if e.Function == pageUpload {
			hint = ": the token's service is not one that can upload files, or its user may not use it"
		}
	case "nopermissions":
		hint = ": the token's user lacks a capability that the function needs"
	case "servicenotavailable":
		hint = ": this Moodle does not offer the function to its own pages, configure a web service token"
	}
	return fmt.Sprintf("%s answered %.60q%s", e.Function, e.ErrorCode, hint)
}

// loginIncomplete reports whether Moodle refused because the session's login
// still needs something (source: require_login in lib/moodlelib.php,
// require_auth in admin/tool/mfa/classes/manager.php).
func (e *wsException) loginIncomplete() bool {
	switch e.ErrorCode {
	case "forcepasswordchangenotice", "nopasswordchangeforced", "usernotfullysetup",
		"sitepolicynotagreed", "redirecterrordetected":
		return true
	}
	return false
}

// sessionOver reports whether Moodle refused because the session ended.
func (e *wsException) sessionOver() bool {
	switch e.ErrorCode {
	case "servicerequireslogin", "requireloginerror", "invalidsesskey", "sessiontimedout":
		return true
	}
	return false
}

// recordByToken asks for the user's record by REST.
func (w *Web) recordByToken(ctx context.Context, token string, userID int64) (gateway.Identity, error) {
	users, err := w.usersByToken(ctx, token, "id", strconv.FormatInt(userID, 10))
	if err != nil {
		return gateway.Identity{}, err
	}
	return identityOf(userID, users)
}

// usersByToken asks by REST for the users with a value in a field.
func (w *Web) usersByToken(ctx context.Context, token, field, value string) ([]userRecord, error) {
	body, err := w.rest(ctx, token, wsUsersByField, url.Values{"field": {field}, "values[0]": {value}})
	if err != nil {
		return nil, err
	}
	return usersOf(body)
}

// rest calls a function by REST, and returns the answer. A refused one is a
// *wsException.
func (w *Web) rest(ctx context.Context, token, function string, args url.Values) ([]byte, error) {
	args.Set("wstoken", token)
	args.Set("wsfunction", function)
	args.Set("moodlewsrestformat", "json")
	body, err := w.post(ctx, pageREST, "application/x-www-form-urlencoded", []byte(args.Encode()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", function, err)
	}
	var refused struct{ Exception, ErrorCode string }
	if json.Unmarshal(body, &refused) == nil && refused.Exception != "" {
		return nil, &wsException{function, refused.ErrorCode}
	}
	return body, nil
}

// post returns what a page of the web services answers, which is always a 200.
func (w *Web) post(ctx context.Context, page, contentType string, body []byte) ([]byte, error) {
	req, err := w.request(ctx, http.MethodPost, page, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	status, _, answer, err := w.do(req)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	return answer, err
}

// usersOf reads an answer of core_user_get_users_by_field.
func usersOf(answer []byte) ([]userRecord, error) {
	var users []userRecord
	if err := json.Unmarshal(answer, &users); err != nil {
		return nil, fmt.Errorf("%s: its answer is not a list of users", wsUsersByField)
	}
	return users, nil
}

// identityOf picks the user from an answer of core_user_get_users_by_field.
// Accounts of several hosts may share a name, never an id.
func identityOf(userID int64, users []userRecord) (gateway.Identity, error) {
	for _, u := range users {
		if u.ID == userID {
			if u.Username == "" || u.Auth == "" {
				return gateway.Identity{}, fmt.Errorf("%s does not tell username and auth: the token's user lacks moodle/user:viewalldetails", wsUsersByField)
			}
			return u.identity(), nil
		}
	}
	return gateway.Identity{}, fmt.Errorf("%s does not show the user: the token's user lacks moodle/user:viewdetails", wsUsersByField)
}

// sessionOwner asks, with the browser's session, for the id of the user to
// whom it belongs: 0 for nobody and for guests.
func (w *Web) sessionOwner(ctx context.Context, b Browser, sesskey string) (int64, error) {
	data, err := w.ajax(ctx, b, sesskey, ajaxCall{Method: wsTimeRemaining, Args: struct{}{}})
	if refused, ok := errors.AsType[*wsException](err); ok && refused.sessionOver() {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return ownerOf(data[0])
}

// recordBySession asks, with the browser's session, for its owner and for the
// user's own record. The owner of a "login as" session is the administrator.
func (w *Web) recordBySession(ctx context.Context, b Browser, p page) (gateway.Identity, error) {
	data, err := w.ajax(ctx, b, p.sesskey,
		ajaxCall{Method: wsTimeRemaining, Args: struct{}{}},
		ajaxCall{Index: 1, Method: wsUsersByField, Args: map[string]any{
			"field":  "id",
			"values": []string{strconv.FormatInt(p.userID, 10)},
		}})
	if refused, ok := errors.AsType[*wsException](err); ok && refused.sessionOver() {
		return gateway.Identity{}, nil
	}
	if err != nil {
		return gateway.Identity{}, err
	}
	owner, err := ownerOf(data[0])
	if err != nil {
		return gateway.Identity{}, err
	}
	if owner == 0 { // the session ended in between
		return gateway.Identity{}, nil
	}
	users, err := usersOf(data[1])
	if err != nil {
		return gateway.Identity{}, err
	}
	id, err := identityOf(p.userID, users)
	id.LoginAs = owner != p.userID
	return id, err
}

func ownerOf(answer json.RawMessage) (int64, error) {
	var session struct {
		UserID *int64 `json:"userid"`
	}
	if err := json.Unmarshal(answer, &session); err != nil || session.UserID == nil || *session.UserID < 0 {
		return 0, fmt.Errorf("%s: its answer names no user", wsTimeRemaining)
	}
	return *session.UserID, nil
}

// ajaxCall is one call of a function that Moodle offers to its own pages.
type ajaxCall struct {
	Index  int    `json:"index"`
	Method string `json:"methodname"`
	Args   any    `json:"args"`
}

// ajax makes calls in one request, in the browser's session and without
// prolonging it, and returns what each answered. A refused one is a
// *wsException.
func (w *Web) ajax(ctx context.Context, b Browser, sesskey string, calls ...ajaxCall) ([]json.RawMessage, error) {
	payload, err := json.Marshal(calls)
	if err != nil {
		return nil, err
	}
	req, err := w.request(ctx, http.MethodPost, PageAJAX, payload)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = url.Values{
		"sesskey":         {sesskey},
		"nosessionupdate": {"1"},
		"info":            {calls[len(calls)-1].Method}, // for access logs, as Moodle's pages do
	}.Encode()
	req.Header.Set("Content-Type", "application/json")
	w.actFor(req, b)
	status, _, body, err := w.do(req)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return nil, fmt.Errorf("ajax: %w", err)
	}
	return parseAJAX(body, calls)
}

// parseAJAX reads an answer of lib/ajax/service.php: a list with one entry per
// call up to the first that is refused, or one object if all are.
func parseAJAX(body []byte, calls []ajaxCall) ([]json.RawMessage, error) {
	var refused struct{ ErrorCode string }
	if json.Unmarshal(body, &refused) == nil && refused.ErrorCode != "" {
		return nil, &wsException{calls[0].Method, refused.ErrorCode}
	}
	var answers []struct {
		Error     bool
		Data      json.RawMessage
		Exception struct{ ErrorCode string }
	}
	if err := json.Unmarshal(body, &answers); err != nil {
		return nil, errors.New("ajax: the answer is not what Moodle gives")
	}
	data := make([]json.RawMessage, 0, len(calls))
	for i, a := range answers {
		if i < len(calls) && a.Error {
			return nil, &wsException{calls[i].Method, a.Exception.ErrorCode}
		}
		data = append(data, a.Data)
	}
	if len(data) != len(calls) {
		return nil, fmt.Errorf("ajax: %d answers to %d calls", len(data), len(calls))
	}
	return data, nil
}
