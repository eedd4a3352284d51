package moodletest

import (
	"bytes"
	"crypto/subtle"
	"image"
	_ "image/gif"
	_ "image/jpeg"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
)

// drafts are the draft areas of a token's user, each with its file.
type drafts struct {
	mu    sync.Mutex
	files map[int64][]byte
}

const (
	firstDraft = 100_000_001
	maxUpload  = 2 << 20 // PHP's upload_max_filesize
)

func (d *drafts) add(file []byte) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files == nil {
		d.files = map[int64][]byte{}
	}
	id := firstDraft + int64(len(d.files))
	d.files[id] = file
	return id
}

func (d *drafts) file(id int64) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.files[id]
}

// uploadPage is /webservice/upload.php (source): it takes a file into a new draft
// area of the token's user. Errors are 200s, in the form of an AJAX script's.
func (st *site) uploadPage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxUpload)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	fail := func(code, message string) {
		writeJSON(w, map[string]any{"error": message, "errorcode": code, "stacktrace": nil, "debuginfo": nil, "reproductionlink": nil})
	}
	if err := r.ParseMultipartForm(maxUpload); err != nil {
		fail("missingparam", "A required parameter (token) was missing")
		return
	}
	if subtle.ConstantTimeCompare([]byte(r.FormValue("token")), []byte(st.token)) != 1 {
		fail("invalidtoken", "Invalid token - token not found")
		return
	}
	results := []map[string]any{}
	for _, files := range r.MultipartForm.File {
		for _, sent := range files {
			f, err := sent.Open()
			if err != nil {
				fail("upload_error_cant_write", "Failed to write file to disk.")
				return
			}
			content, err := io.ReadAll(f)
			f.Close()
			if err != nil {
				fail("upload_error_partial", "The file was only partially uploaded.")
				return
			}
			results = append(results, map[string]any{
				"component": "user", "filearea": "draft", "filename": sent.Filename, "filepath": "/", "itemid": st.drafts.add(content),
				"filesize": len(content), "license": "unknown",
			})
		}
	}
	writeJSON(w, results)
}

// updatePicture is core_user_update_picture for a token whose user may edit all
// profiles; code is that of an exception.
func (st *site) updatePicture(form url.Values) (answer any, code string) {
	draft, err := strconv.ParseInt(form.Get("draftitemid"), 10, 64)
	if err != nil {
		return nil, "invalidparameter"
	}
	id, _ := strconv.ParseInt(form.Get("userid"), 10, 64)
	u, ok := st.users.byID(id)
	switch {
	case !ok:
		return nil, "invaliduser"
	case u.Deleted:
		return nil, "userdeleted"
	case u.ID == guestID:
		return nil, "guestsarenotallowed"
	case u.MnetHostID != localHostID || u.Auth == "mnet":
		return nil, "noprofileedit"
	case u.Admin:
		return nil, "useradmineditadmin"
	}
	file := st.drafts.file(draft)
	if _, _, err := image.DecodeConfig(bytes.NewReader(file)); err != nil {
		return map[string]any{"success": false, "warnings": []any{}}, ""
	}
	revision, _ := strconv.ParseInt(u.Picture, 10, 64)
	st.users.update(u.ID, func(u *User) {
		u.Icon, u.IconTime, u.Picture = file, st.now(), strconv.FormatInt(revision+1, 10)
	})
	return map[string]any{"success": true, "warnings": []any{}, "profileimageurl": st.url("/pluginfile.php/1/user/icon/boost/f1")}, ""
}
