package moodletest

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

func (st *site) ajaxPages() { st.page("/lib/ajax/service.php", (*request).ajaxPage) }

type ajaxCall struct {
	Index      int             `json:"index"`
	MethodName string          `json:"methodname"`
	Args       json.RawMessage `json:"args"`
}

type ajaxAnswer struct {
	Error     bool           `json:"error"`
	Exception *ajaxException `json:"exception,omitempty"`
	Data      any            `json:"data,omitempty"`
}

type ajaxException struct {
	Message     string `json:"message"`
	ErrorCode   string `json:"errorcode"`
	Link        string `json:"link"`
	MoreInfoURL string `json:"moreinfourl"`
}

// ajaxPage is /lib/ajax/service.php: calls run in order and the first that
// fails ends the list. Every answer is a 200.
func (q *request) ajaxPage() {
	var calls []ajaxCall
	if err := json.NewDecoder(q.r.Body).Decode(&calls); err != nil || len(calls) > 100 {
		q.json(map[string]any{"error": "Invalid json in request", "errorcode": "codingerror"})
		return
	}
	answers := []ajaxAnswer{}
	for _, call := range calls {
		answer := q.ajaxCall(call)
		answers = append(answers, answer)
		if answer.Error {
			break
		}
	}
	q.json(answers)
}

func (q *request) ajaxCall(call ajaxCall) ajaxAnswer {
	fail := func(code, page, message string) ajaxAnswer {
		return ajaxAnswer{Error: true, Exception: &ajaxException{message, code, q.url("/"),
			"https://docs.moodle.org/405/en/error/" + page + "/" + code}}
	}
	if call.MethodName != "core_session_time_remaining" && call.MethodName != "core_user_get_users_by_field" {
		return fail("servicenotavailable", "webservice", "Web service is not available (it doesn't exist or might be disabled)")
	}
	if !q.s.loggedIn() {
		return fail("servicerequireslogin", "webservice", "Web service is not available. (The session has been logged out or has expired.)")
	}
	if q.r.URL.Query().Get("sesskey") != q.s.user().text("sesskey") {
		return fail("invalidsesskey", "moodle", "Your session has most likely timed out. Please log in again.")
	}
	if call.MethodName == "core_session_time_remaining" {
		remaining := int64(q.timeout.Seconds()) - (q.now().Unix() - q.s.modified)
		return ajaxAnswer{Data: struct {
			UserID    int64 `json:"userid"`
			Remaining int64 `json:"timeremaining"`
		}{q.s.currentID(), remaining}}
	}
	var args struct {
		Field  string   `json:"field"`
		Values []string `json:"values"`
	}
	if err := json.Unmarshal(call.Args, &args); err != nil {
		return fail("invalidparameter", "debug", "Invalid parameter value detected")
	}
	found := []map[string]any{}
	for _, u := range q.usersByField(args.Field, args.Values) {
		if u.ID == q.s.currentID() { // learners may see themselves
			found = append(found, q.userFields(&u))
		}
	}
	return ajaxAnswer{Data: found}
}

func (st *site) usersByField(field string, values []string) []User {
	var found []User
	for _, value := range values {
		found = append(found, st.users.all(func(u *User) bool {
			switch field {
			case "id":
				return !u.Deleted && strconv.FormatInt(u.ID, 10) == value
			case "username":
				return !u.Deleted && u.Username == strings.ToLower(value)
			case "email":
				return !u.Deleted && strings.EqualFold(u.Email, value)
			}
			return false
		})...)
	}
	return found
}

// userFields is what core_user_get_users_by_field tells an administrator's
// token. There is no mnethostid in it.
func (st *site) userFields(u *User) map[string]any {
	icon := st.url("/theme/image.php/boost/core/1/u/")
	fields := map[string]any{
		"id": u.ID, "username": u.Username, "firstname": u.FirstName, "lastname": u.LastName,
		"fullname": u.FullName(), "email": u.Email, "department": "", "firstaccess": 0, "lastaccess": 0,
		"auth": u.Auth, "suspended": u.Suspended, "confirmed": true, "lang": u.Lang, "theme": "",
		"timezone": u.Timezone, "mailformat": 1, "trackforums": 0, "city": u.City, "country": u.Country,
		"profileimageurlsmall": icon + "f2", "profileimageurl": icon + "f1",
	}
	if u.IDNumber != "" {
		fields["idnumber"] = u.IDNumber
	}
	return fields
}

// webServices lets them answer to a token, unless that is empty.
func (st *site) webServices(token string) {
	if st.token = token; token != "" {
		st.mux.HandleFunc("/webservice/rest/server.php", st.restServer)
		st.mux.HandleFunc("/webservice/upload.php", st.uploadPage)
	}
}

// restServer is /webservice/rest/server.php in its JSON format. Errors are
// 200s that hold an exception.
func (st *site) restServer(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	exception := func(class, code, message, debug string) map[string]any {
		e := map[string]any{"exception": class, "errorcode": code, "message": message}
		if debug != "" {
			e["debuginfo"] = debug
		}
		return e
	}
	answer := func() any {
		if err := r.ParseForm(); err != nil || subtle.ConstantTimeCompare([]byte(r.Form.Get("wstoken")), []byte(st.token)) != 1 {
			return exception(`core\exception\moodle_exception`, "invalidtoken", "Invalid token - token not found", "")
		}
		switch function := r.Form.Get("wsfunction"); function {
		case "core_user_get_users_by_field":
		case "core_user_update_picture":
			answer, code := st.updatePicture(r.Form)
			if code != "" {
				return exception(`core\exception\moodle_exception`, code, "No picture", "")
			}
			return answer
		default:
			return exception("webservice_access_exception", "accessexception", "Access control exception",
				"Access to the function "+function+"() is not allowed.")
		}
		var values []string
		for i := 0; i < 100 && r.Form.Has("values["+strconv.Itoa(i)+"]"); i++ {
			values = append(values, r.Form.Get("values["+strconv.Itoa(i)+"]"))
		}
		for _, name := range []string{"field", "values"} {
			if name == "field" && !r.Form.Has("field") || name == "values" && values == nil {
				return exception(`core\exception\invalid_parameter_exception`, "invalidparameter",
					"Invalid parameter value detected", "Missing required key in single structure: "+name)
			}
		}
		found := []map[string]any{}
		for _, u := range st.usersByField(r.Form.Get("field"), values) {
			found = append(found, st.userFields(&u))
		}
		return found
	}()
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, answer)
}

// json answers a call of a page's script.
func (q *request) json(v any) {
	if !q.finish() {
		return
	}
	q.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	writeJSON(q.w, v)
}

// writeJSON writes v as PHP's json_encode does, slashes escaped.
func writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write([]byte(strings.ReplaceAll(string(b), "/", `\/`)))
}
