"""The patient of a case, from its name: follow-up scans of one person are recognised by their naming."""

import re

# Names of cases that end in the visit. "~" stands for "-", "_", "/" or a space: datasets built from these collections
# (nnU-Net's raw folders, exports) often join the parts with other characters, or add words in front.
_VISIT = r"(?:ses|session|visit|time~?point|tp|week|day|fu|follow~?up)~?\d+[a-z]?(?:~\d+)?"
_FOLLOW_UPS = tuple(
    re.compile(pattern.replace("~", "[-_/ ]"), re.IGNORECASE)
    for pattern in (
        r"(?P<patient>(?:.+~)?brats~[a-z]+~\d{5})(?:~.+)?",  # BraTS 2023 on: -000, -001; post-treatment -100, -101
        r"(?P<patient>(?:.+~)?brats1[5-9]~.+)~\d+",  # BraTS 2015 to 2019: Brats18_TCIA01_201_1
        r"(?P<patient>(?:.+~)?brats~(?:2013|tcia)~pat\d+)~\d+",  # BraTS 2015's own names: brats_tcia_pat101_0001
        r"(?P<patient>(?:.+~)?rhuh~(?:gbm~)?\d+)~\d+",  # RHUH-GBM: RHUH-0001_0, _1, _2
        r"(?P<patient>(?:.+~)?upenn~gbm~\d+)(?:~.+)?",  # UPENN-GBM-00001_11, _21
        r"(?P<patient>(?:.+~)?ucsf~pdgm~\d+)(?:~.+)?",  # UCSF-PDGM-0001_FU003d, folders with _nifti
        r"(?P<patient>(?:.+~)?ucsd~ptgbm~\d+)(?:~.+)?",  # UCSD-PTGBM-0001_01
        r"(?P<patient>(?:.+~)?patient~?id~?\d+)~timepoint.+",  # MU-Glioma-Post: PatientID_0003_Timepoint_1
        r"(?P<patient>(?:.+~)?patient~\d+)~week.+",  # LUMIERE: Patient-001/week-000-1
        r"(?P<patient>.+-\d{5})-\d{3}",
        r"(?P<patient>.+?)~ses-[a-z0-9]+.*",  # BIDS sessions
        rf"(?P<patient>.+?)~(?:{_VISIT}|pre|post|(?:pre|post)~?op|baseline)",
    )
)


def patient_of(case_id: str) -> str:
    """The patient of a case: the id without its visit; the whole id where the naming is not known here."""
    for pattern in _FOLLOW_UPS:
        if match := pattern.fullmatch(case_id):
            return match["patient"]
    return case_id


def patient_key(patient: str) -> str:
    """A patient's name in lower case and with one separator, so that names that differ in nothing else are equal."""
    return re.sub(r"[-_/ ]+", "-", patient).lower()
